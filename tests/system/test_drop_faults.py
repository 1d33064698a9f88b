"""Intake when the disk is full, has no inodes, fails or cannot be written: nothing is lost, nothing comes twice (D5)."""
import errno
import signal
import subprocess
import sys

import pytest
from faults import FILE_SYNC, FOLDER_SYNC, HANG, READ_ONLY, STALL
from harness import wait_until

HEAD = "From: a@here.example\nTo: b@there.example\nMessage-ID: <{id}@t>\n"

def letter(ident, body="hello\n"):
    return HEAD.format(id=ident) + "\n" + body


def leftovers(mta):
    return [p.name for p in (mta.spool / "incoming").iterdir() if p.suffix == ".new"]


def is_in_drop(mta, name):
    return (mta.spool / "drop" / name).exists()


def ids(rows):
    return sorted(row["id"] for row in rows)


# --- a small file system

def put(mta, name, text):
    """By rename, from the same file system."""
    path = mta.disk.path / f"new-{name}"
    path.write_text(text)
    path.chmod(0o644)
    path.rename(mta.spool / "drop" / name)


@pytest.fixture
def cramped(small, sink):
    """cramped(mount options): Postern on a small file system, started."""
    def start(options):
        mta = small(options)
        mta.server = sink()
        return mta.start(mta.server.relay("out"))
    return start


def test_re01_nearly_full_disk_leaves_messages_in_drop(cramped):
    mta = cramped("size=40m")
    put(mta, "before", letter("before"))
    mta.server.wait(1)
    mta.disk.fill(3 << 20)
    put(mta, "waits", letter("waits"))
    mta.wait_log(r"no room in the spool's file system: it is nearly full; messages stay in drop/")
    assert is_in_drop(mta, "waits")
    mta.disk.empty()
    assert ids(mta.server.wait(2)) == ["<before@t>", "<waits@t>"]
    assert len(mta.grep("no room")) == 1


def test_re01_disk_full_in_the_middle_of_a_message(cramped):
    """Its line ends double it, so it fits when it is looked at and does not when it is written."""
    mta = cramped("size=40m")
    mta.disk.fill(29 << 19)
    put(mta, "large", letter("large", "\n" * (5 << 20)))
    mta.wait_log(r"cannot take a message: No space left on device; messages stay in drop/")
    wait_until(lambda: is_in_drop(mta, "large"), what="it to be back")
    assert not leftovers(mta)
    mta.disk.empty()
    assert ids(mta.server.wait(1)) == ["<large@t>"]
    mta.wait_empty()


def test_dr10_one_user_fills_the_disk(cramped):
    """There is no quota but the file system's: what is queued goes all the same, and nothing of anybody's is lost."""
    mta = cramped("size=40m")
    mta.server.signal(signal.SIGSTOP)
    put(mta, "before", letter("before"))
    mta.wait_log("uid=0 from=")
    (mta.spool / "drop").chmod(0o3733)
    flood = """
import os, sys
os.setgid(65534), os.setuid(65534), os.chdir(sys.argv[1])
try:
    for i in range(1000):
        with open(f"flood{i}", "wb", 0) as f:
            f.write(b"From: a@here.example\\nTo: b@there.example\\nMessage-ID: <f@t>\\n\\n" + b"x" * (1 << 20))
except OSError as e:
    sys.exit(e.errno)
"""
    assert subprocess.run([sys.executable, "-c", flood, mta.spool / "drop"]).returncode == errno.ENOSPC
    mta.server.signal(signal.SIGCONT)
    mta.server.wait(1)
    mta.disk.resize("size=44m")
    put(mta, "waits", letter("waits"))
    mta.wait_log("no room in the spool's file system")
    left = len(list((mta.spool / "drop").iterdir()))
    assert left > 10 and is_in_drop(mta, "waits") and not list((mta.spool / "rejected").iterdir())
    for one in (mta.spool / "drop").glob("flood*"):
        one.unlink()
    assert "<waits@t>" in ids(mta.server.wait(2))


def test_re03_no_inodes(cramped):
    mta = cramped("size=60m,nr_inodes=3000")
    put(mta, "before", letter("before"))
    mta.server.wait(1)
    path = mta.disk.path / "ready"
    path.write_text(letter("waits"))
    path.chmod(0o644)
    mta.disk.use_up_inodes()
    path.rename(mta.spool / "drop/waits")
    mta.wait_log(r"no room in the spool's file system: hardly any inode is free")
    assert is_in_drop(mta, "waits")
    mta.disk.free_inodes()
    assert ids(mta.server.wait(2)) == ["<before@t>", "<waits@t>"]


# --- a disk that fails

@pytest.fixture
def failing(faulty, sink):
    """Postern whose pickup sees the faults."""
    mta = faulty("pickup")
    mta.server = sink()
    mta.start(mta.server.relay("out"))
    return mta


@pytest.mark.parametrize("count", [1, 20], ids=["fsync", "syncfs"])
def test_re05_failed_sync_of_files_writes_them_anew(failing, count):
    """What was written is not trusted: another copy is made when the disk is well again."""
    failing.faults.on(FILE_SYNC)
    for i in range(count):
        failing.drop(letter(f"m{i}"), name=f"m{i}")
    failing.wait_log(r"cannot sync new messages: Input/output error; messages stay in drop/")
    wait_until(lambda: is_in_drop(failing, "m0") and not leftovers(failing), what="all to be back")
    assert failing.server.count() == 0
    failing.faults.off(FILE_SYNC)
    assert ids(failing.server.wait(count)) == sorted(f"<m{i}@t>" for i in range(count))
    failing.wait_empty()
    assert failing.server.count() == count


@pytest.mark.parametrize("count", [1, 20], ids=["fsync", "syncfs"])
def test_re05_cr03_failed_sync_of_a_folder_starts_again(failing, count):
    """What is on disk is not known, so pickup ends, looks again, and announces nothing before a sync succeeded."""
    failing.faults.on(FOLDER_SYNC)
    for i in range(count):
        failing.drop(letter(f"m{i}"))
    failing.wait_log(r"cannot sync the spool's folders: Input/output error", times=2)
    assert failing.server.count() == 0
    failing.faults.off(FOLDER_SYNC)
    assert ids(failing.server.wait(count, timeout=60)) == sorted(f"<m{i}@t>" for i in range(count))
    failing.wait_empty()
    assert failing.server.count() == count


def test_re06_read_only_disk(failing):
    failing.drop(letter("before"))
    failing.server.wait(1)                      # its start is over
    failing.faults.on(READ_ONLY)
    failing.drop(letter("one"), name="one")
    failing.wait_log(r"cannot take a message: Read-only file system; messages stay in drop/")
    assert is_in_drop(failing, "one")
    failing.faults.off(READ_ONLY)
    assert ids(failing.server.wait(2)) == ["<before@t>", "<one@t>"]
    failing.wait_empty()
    assert failing.server.count() == 2


def test_re06_read_only_when_it_was_claimed_already(failing):
    """It can go neither on nor back: it is found where it stands when that is over."""
    failing.drop(letter("before"))
    failing.server.wait(1)
    failing.faults.on(STALL)
    failing.drop(letter("one"), name="one")
    wait_until(lambda: failing.faults.stalled)
    failing.faults.on(READ_ONLY)
    failing.faults.off(STALL)
    failing.wait_log(r"cannot sync new messages: Read-only file system; messages stay in drop/")
    assert not is_in_drop(failing, "one")
    failing.faults.off(READ_ONLY)
    assert ids(failing.server.wait(2)) == ["<before@t>", "<one@t>"]
    failing.wait_empty()
    assert not leftovers(failing) and failing.server.count() == 2


# --- batches

def claimed_at_the_sync(mta):
    """Which of a large and a small message have left drop/ when the sync of their batch hangs; none: it was another's."""
    mta.kill("pickup", signal.SIGSTOP)
    mta.faults.stalled = 0
    mta.faults.on(STALL)
    mta.drop(letter("large", ("x" * 77 + "\n") * 220_000), name="large")
    mta.drop(letter("small"), name="small")
    mta.kill("pickup", signal.SIGCONT)
    wait_until(lambda: mta.faults.stalled, what="a sync")
    claimed = [name for name in ("large", "small") if not is_in_drop(mta, name)]
    mta.faults.off(STALL)
    return claimed


def test_large_message_ends_its_batch(failing):
    """What comes behind it is not claimed before it is on disk: a batch is bounded in bytes, not in files alone."""
    for count in range(2, 20, 2):               # until no earlier batch was still on its way to the disk
        claimed = claimed_at_the_sync(failing)
        assert set(ids(failing.server.wait(count))) == {"<large@t>", "<small@t>"}
        if claimed:
            break
    assert claimed == ["large"]


# --- a message that never ends

def test_dr32_message_that_pickup_spins_on(failing):
    """Thirty seconds of its own processor time (here one) end it, twice; the message is put aside, the rest flows."""
    failing.allow += [r"signal 26"]
    failing.faults.on(HANG)
    failing.drop(letter("hang", "HANG\n"), name="hang")
    wait_until(lambda: list((failing.spool / "rejected").glob("*.reason")), timeout=60, what="it to be rejected")
    reason = next((failing.spool / "rejected").glob("*.reason")).read_text()
    assert "brought Postern down twice" in reason
    failing.drop(letter("after"))
    assert ids(failing.server.wait(1)) == ["<after@t>"]
