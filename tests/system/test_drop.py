"""What programs may do to drop/: the D4 cases of a hostile or clumsy dropper, and what comes of their messages."""
import ctypes
import os
import re
import signal
import socket
import stat
import time

import pytest
from faults import CRASH
from harness import SLOW, wait_until

HEAD = "From: a@here.example\nTo: b@there.example\nMessage-ID: <{id}@t>\n"


def letter(ident, body="hello\n"):
    return HEAD.format(id=ident) + "\n" + body


def rejected(mta):
    return {p.name: p.read_text(errors="replace") for p in (mta.spool / "rejected").iterdir() if p.suffix == ".reason"}


def wait_rejected(mta, name):
    return wait_until(lambda: rejected(mta).get(f"{name}.reason"), what=f"{name} to be rejected")


@pytest.fixture
def started(mta, sink):
    """A relay that records everything."""
    server = sink(record=True)
    mta.start(server.relay("out"))
    mta.server = server
    return mta


def still_works(mta, ident="after"):
    """Whatever stood in drop/, an ordinary message goes through at once."""
    before = mta.server.count()
    mta.drop(letter(ident))
    mta.server.wait(before + 1)


# --- what is no message

def test_dr01_symbolic_link_is_not_read(started, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(letter("secret"))
    (started.spool / "drop/link").symlink_to(secret)
    started.wait_log(r"drop/link is a symbolic link and no message: left alone")
    still_works(started)
    assert started.server.count() == 1 and (started.spool / "drop/link").is_symlink()
    (started.spool / "drop/link").unlink()


def test_dr02_fifo_socket_and_folder_block_nothing(started):
    drop = started.spool / "drop"
    os.mkfifo(drop / "fifo")
    with socket.socket(socket.AF_UNIX) as s:
        here = os.getcwd()
        os.chdir(drop)
        try:
            s.bind("socket")
        finally:
            os.chdir(here)
    (drop / "folder/below").mkdir(parents=True)
    (drop / "folder/below/m").write_text(letter("below"))
    started.wait_log(r"drop/fifo is a FIFO")
    started.wait_log(r"drop/socket is a socket")
    still_works(started)
    assert len(started.grep("left alone")) <= 3
    assert started.server.count() == 1


def test_dr03_hard_link_waits_and_is_taken_when_the_other_name_goes(started):
    outside = started.dir / "outside"
    outside.write_text(letter("linked"))
    outside.chmod(0o644)
    os.link(outside, started.spool / "drop/linked")
    still_works(started)
    assert (started.spool / "drop/linked").exists()
    outside.unlink()
    started.server.wait(2, timeout=5)


def test_dr03_hard_link_that_stays_is_rejected(started):
    outside = started.dir / "outside"
    outside.write_text(letter("linked"))
    outside.chmod(0o644)
    os.link(outside, started.spool / "drop/linked")
    wait_until(lambda: "linked.reason" in rejected(started), timeout=40, what="the link to be rejected")
    assert "another name" in rejected(started)["linked.reason"]
    assert outside.exists() and started.server.count() == 0


def test_dr04_links_that_come_and_go(started):
    """While it is looked at and copied: it comes once, whole, when that is over."""
    outside = started.dir / "flips"
    outside.write_text(letter("flips", "x" * 70 + "\n"))
    outside.chmod(0o644)
    fd = os.open(outside, os.O_RDONLY)
    outside.rename(started.spool / "drop/flips")
    libc, at_fdcwd, follow = ctypes.CDLL(None), -100, 0x400
    end = time.monotonic() + 1                  # until our inode is gone: what is sent is a copy
    while time.monotonic() < end and libc.linkat(at_fdcwd, b"/proc/self/fd/%d" % fd, at_fdcwd, bytes(outside), follow) == 0:
        outside.unlink()
    os.close(fd)
    still_works(started)
    rows = started.server.wait(2)
    started.wait_empty()
    assert sorted(row["id"] for row in rows) == ["<after@t>", "<flips@t>"] and not rejected(started)


def test_dr05_written_to_when_it_was_taken(started):
    """What is sent is a copy: who keeps the file open writes to nothing of ours."""
    outside = started.dir / "kept"
    outside.write_text(letter("kept", "as it was\n"))
    outside.chmod(0o644)
    with open(outside, "r+") as mine:
        started.server.signal(signal.SIGSTOP)
        outside.rename(started.spool / "drop/kept")
        started.wait_log("uid=.* from=<a@here.example>")
        mine.write(letter("evil", "as it is\n"))
        mine.flush()
        copy, = wait_until(lambda: [p for p in (started.spool / "queue").glob("*/*")])
        assert copy.stat().st_ino != os.fstat(mine.fileno()).st_ino and "as it was" in copy.read_text()
        started.server.signal(signal.SIGCONT)
    started.server.wait(1)
    assert b"as it was" in started.server.messages()[0][1] and started.server.ledger()[0]["id"] == "<kept@t>"


@pytest.mark.parametrize("name", [".hidden", "m.tmp", "m.part"])
def test_names_that_are_not_ready(started, name):
    path = started.spool / "drop" / name
    path.write_text(letter("early"))
    path.chmod(0o644)
    still_works(started)
    assert path.exists() and started.server.count() == 1
    path.rename(started.spool / "drop/ready")
    started.server.wait(2)


# --- when it is complete

def test_renamed_and_linked_are_taken_at_once(started):
    taken = []
    for i in range(4):
        begin, count = time.monotonic(), started.server.count()
        still_works(started)
        outside = started.dir / "outside"
        outside.write_text(letter(f"linked{i}"))
        outside.chmod(0o644)
        os.link(outside, started.spool / f"drop/linked{i}")
        outside.unlink()
        started.server.wait(count + 2)
        taken.append(time.monotonic() - begin)
    assert min(taken) < 1.9, "the silence that files written in place need"


def test_written_in_place_waits_for_silence(started):
    path = started.spool / "drop/slow"
    start = time.monotonic()
    with open(path, "w") as f:
        path.chmod(0o644)
        f.write(HEAD.format(id="slow") + "\n")
        for i in range(6):
            f.write(f"part {i}\n")
            f.flush()
            time.sleep(0.5)
        written = time.monotonic()
    assert path.exists()
    started.server.wait(1)
    assert time.monotonic() - written >= 1.9
    assert time.monotonic() - start < 20 * SLOW
    assert b"part 5\r\n" in started.server.messages()[0][1]


def test_held_open_is_left_alone(started):
    path = started.spool / "drop/held"
    with open(path, "w") as f:
        path.chmod(0o644)
        f.write(letter("held"))
        f.flush()
        time.sleep(4)
        assert path.exists()
    started.server.wait(1, timeout=10)


def test_half_written_when_pickup_starts(started):
    """The lease tells where we own the file; another user's must have been silent for longer."""
    started.stop()
    path = started.spool / "drop/half"
    with open(path, "w") as f:
        path.chmod(0o644)
        f.write(HEAD.format(id="half") + "\nfirst\n")
        f.flush()
        started.start()
        still_works(started)
        for _ in range(6):
            time.sleep(0.5)
            f.write("more\n")
            f.flush()
        assert path.exists()
        f.write("last\n")
    started.server.wait(2, timeout=25)
    assert any(data.endswith(b"more\r\nlast\r\n") for _, data in started.server.messages())


def test_closed_by_a_writer_that_was_killed_and_found_later(started):
    started.stop()
    for i in range(50):
        started.drop(letter(f"before{i}"))
    started.start()
    started.server.wait(50)


# --- what is in it

@pytest.mark.parametrize("name,content,reason", [
    ("DR08-empty", "", "it is empty"),
    ("DR08-body-first", "no header here\nTo: a@b.example\n", "no recipients"),
    ("DR11-blank", "X-Receiver: <a b@c.example>\n\n", "a blank, a control character"),
    ("DR11-parameter", "X-Receiver: <a@c.example> SIZE=1\n\n", "a blank, a control character"),
    ("DR11-quotes", 'From: a@b.example\nTo: "a@c.example\n\n', "not of the form user@domain"),
    ("DR11-route", "X-Receiver: @a,@b:c@d.example\n\n", "not of the form user@domain"),
    ("DR11-bare", "From: a@b.example\nTo: user\n\n", "the part after @ is missing"),
    ("DR11-no-local", "From: a@b.example\nTo: @b.example\n\n", "not of the form user@domain"),
    ("DR11-long", "X-Receiver: <" + "a" * 1000000 + "@c.example>\n\n", "is too long"),
    ("DR11-latin1", b"X-Receiver: <j\xf6rg@c.example>\n\n", "broken UTF-8"),
    ("DR12-newline", "X-Receiver: <a@b.example\n rcpt=c@d.example>\n\n", "a blank, a control character"),
    ("DR14-nobody", "From: a@b.example\nTo: undisclosed-recipients:;\n\nx\n", "no recipients"),
    ("DR16-nul-header", b"To: a@b.example\nX: \0\n\n", "NUL byte in its header"),
    ("DR16-nul-body", b"To: a@b.example\n\nx\0y\n", "NUL byte in its body"),
    ("DR16-stray-bcc", "To: a@b.example\nrubbish\nBcc: c@d.example\n\n", "a Bcc stands behind it"),
    ("DR17-loop", "To: a@b.example\n" + "Received: x\n" * 51 + "\n", "mail loop"),
    ("unknown-server", "X-Postern-Server: nowhere\nTo: a@b.example\n\n", "no server of the configuration"),
], ids=lambda value: value if isinstance(value, str) and re.fullmatch(r"[\w-]{1,20}", value) else "")
def test_rejected_with_a_reason(started, name, content, reason):
    started.drop(content, name=name)
    text = wait_rejected(started, name)
    assert reason in text, text
    wait_until((started.spool / "rejected" / name).exists, what="the file beside its reason")
    started.wait_log(f"rejected: uid={os.getuid()}: {name} is kept as rejected/{name}: ")
    still_works(started)
    assert started.server.count() == 1


def test_recipient_limit(mta, sink):
    server = sink()
    mta.start("recipient-limit = 3\n" + server.relay())
    to = lambda count: "To: " + ", ".join(f"b{i}@there.example" for i in range(count)) + "\n\nx\n"
    mta.drop(to(4), name="many")
    assert "more than 3 recipients (recipient-limit)" in wait_rejected(mta, "many")
    mta.drop(to(3))
    row, = server.wait(1)
    assert len(row["rcpts"]) == 3


def test_dr07_sparse_terabyte_is_not_read(started):
    outside = started.dir / "sparse"
    with open(outside, "w") as f:
        f.write(letter("sparse"))
        f.truncate(1 << 40)
    outside.chmod(0o644)
    outside.rename(started.spool / "drop/sparse")
    assert "message-size-limit" in wait_rejected(started, "sparse")
    still_works(started)


def test_dr08_no_body_no_blank_line(started):
    started.drop(HEAD.format(id="1") + "Subject: end")
    started.drop(HEAD.format(id="2") + "no blank line\n")
    started.server.wait(2)
    bodies = sorted(data.split(b"\r\n\r\n", 1)[1] for _, data in started.server.messages())
    assert bodies == [b"", b"no blank line\r\n"]


def test_dr09_names_mean_nothing(started):
    names = ["-rf", "a b", "x" * 240, "line\nbreak", "\udcff\udcfe", "%n%s", "..x", "$(reboot)", "queue"]
    for i, name in enumerate(names):
        started.drop(letter(str(i)), name=name if not name.startswith(".") else "x" + name)
    started.server.wait(len(names))


def test_dr33_control_characters_do_not_reach_the_log(started):
    name = "evil\npostern smtpout[1]: X: to=<a@b>, status=sent (\033[31m%n)"
    started.drop("From: a@b.example\n\n", name=name)
    started.wait_log(r"rejected: uid=\d+: evil\\012postern smtpout")
    assert "\033" not in started.log() and not started.grep(r"^postern smtpout\[1\]")


def test_dr13_duplicates_collapse_and_the_limit_holds(started):
    many = ",\n ".join(["b@there.example"] * 100000)
    started.drop(f"From: a@here.example\nMessage-ID: <1@t>\nTo: {many}\n\n")
    rows = started.server.wait(1)
    assert rows[0]["rcpts"] == ["b@there.example"]
    many = ",\n ".join(f"u{i}@there.example" for i in range(10001))
    started.drop(f"From: a@here.example\nTo: {many}\n\n", name="many")
    assert "more than 10000 recipients" in wait_rejected(started, "many")


def test_dr16_line_ends_and_large_headers(started):
    many = "".join(f"X-{i}: {i}\n" for i in range(20000))
    started.drop(("Date: x\n" + HEAD.format(id="1") + many + "Subject: a\n b\r\n\tc\r\n\none\ntwo\r\nthr\ree\n\n.\n").encode())
    started.server.wait(1)
    _, data = started.server.messages()[0]
    assert data.endswith(b"Subject: a\r\n b\r\n\tc\r\n\r\none\r\ntwo\r\nthr ee\r\n\r\n.\r\n")
    assert not re.search(rb"[^\r]\n|\r[^\n]", data)


def test_dr17_what_is_missing_is_added_once(started):
    started.drop("X-Sender: <s@here.example>\nX-Receiver: <b@there.example>\nSubject: x\n\nbody\n")
    started.server.wait(1)
    envelope, data = started.server.messages()[0]
    head = data.split(b"\r\n\r\n")[0].decode()
    for field in ("Date", "Message-ID", "Received"):
        assert len(re.findall(rf"^{field}:", head, re.M)) == 1, head
    assert "From: s@here.example" in head and "X-Sender" not in head and "X-Receiver" not in head
    queue_id = re.search(r"id ([0-9A-V]{13});", head)[1]
    assert f"Message-ID: <{queue_id}@mail.here.example>" in head
    started.wait_log(rf"postern/pickup\[\d+\]: {queue_id}: uid={os.getuid()} from=<s@here.example>$")


def test_bcc_in_every_spelling_never_leaves(started):
    for i, bcc in enumerate(["Bcc: c@d.example", "BCC:c@d.example", "bcc :\n c@d.example", "Bcc\t: x@y.example,\r\n\tc@d.example"]):
        started.drop(HEAD.format(id=i) + bcc + "\n\n")
    rows = started.server.wait(4)
    assert all("c@d.example" in row["rcpts"] for row in rows)
    for _, data in started.server.messages():
        assert not re.search(rb"^\s*bcc", data, re.I | re.M) and b"d.example" not in data


def test_dr29_unreadable_file_is_rejected(started):
    if os.getuid() != 0:
        pytest.skip("our own files are ours to chmod; a stranger's need root to make")
    outside = started.dir / "outside"
    outside.write_text(letter("closed"))
    outside.chmod(0)
    outside.rename(started.spool / "drop/closed")
    assert "readable by the group" in wait_rejected(started, "closed")


def test_dr31_ck09_time_stamps_mean_nothing(started):
    """Nor does a file system whose clock is ahead."""
    for i, when in enumerate((0, 4_000_000_000)):
        outside = started.dir / f"old{i}"
        outside.write_text(letter(str(i)))
        outside.chmod(0o644)
        os.utime(outside, (when, when))
        outside.rename(started.spool / "drop" / outside.name)
    started.server.wait(2)


def test_dr35_same_message_id_twice(started):
    started.drop(letter("same"))
    started.drop(letter("same"))
    started.server.wait(2)


def test_a_droppers_mode_never_says_complete(started):
    """An instance without root shares its uid with the droppers: mode 0740 is what we mark finished files with."""
    outside = started.dir / "outside"
    outside.write_text("postern 1\nid=0000000000001\n")
    outside.chmod(stat.S_IRWXU | stat.S_IRGRP)
    outside.rename(started.spool / "drop/forged")
    wait_rejected(started, "forged") if os.getuid() else None
    still_works(started)


def test_rejecting_never_overwrites(started):
    for _ in range(3):
        started.drop("From: a@b.example\n\n", name="same")
        wait_until(lambda: not (started.spool / "drop/same").exists(), what="it to be taken")
    wait_until(lambda: len(rejected(started)) == 3, what="three reasons")
    assert {p.name for p in (started.spool / "rejected").iterdir()} == {
        "same", "same.reason", "same.1", "same.1.reason", "same.2", "same.2.reason"}


# --- pickup dies

def test_dr32_message_that_brings_pickup_down_twice(faulty, sink):
    """A crash while one message is in hand is held against it; a second one puts it aside, and the rest flows."""
    mta = faulty("pickup")
    mta.server = sink()
    mta.allow += [r"signal 11"]
    mta.faults.on(CRASH)
    mta.start(mta.server.relay("out"))
    mta.drop("From: a@here.example\nTo: b@there.example\n\nCRASH\n")
    [text] = wait_until(lambda: list(rejected(mta).values()), what="it to be put aside")
    assert "brought Postern down twice" in text and mta.log().count("was killed by signal 11") == 2
    still_works(mta)


def test_cr02_pickup_killed_again_and_again(started):
    count = 400
    for i in range(count):
        started.drop(letter(f"k{i}"))
        if i % 80 == 40:
            started.kill("pickup")
    rows = started.server.wait(count, timeout=90)
    assert sorted(row["id"] for row in rows) == sorted(set(row["id"] for row in rows))
    assert not rejected(started)
