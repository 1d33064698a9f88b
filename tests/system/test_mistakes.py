"""What operators do to an instance by mistake (D8): each is named in plain words, nothing is lost, nothing is sent twice."""
import os
import re
import shutil
import subprocess

import pytest

from fake_smtp import free_address
from harness import wait_until
from test_deliver import letter
from test_failover import relay
from test_retry import refuse

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files of other users")


OUT = 'server "out" { method = relay host = "127.0.0.1" port = 9 tls = none }\n'


def with_waiting_mail(mta, srv):
    """One message waits in the queue, and the service is stopped."""
    mta.start('retry { after = { "1h" } }\n' + relay("out", srv))
    mta.drop(letter())
    mta.wait_log("status=deferred")
    mta.stop()


def start_refused(mta):
    """(exit status, what is said to whoever typed it) of a start that is refused."""
    done = mta.postern("start", timeout=20)
    if done.returncode == 0:
        mta.postern("stop", check=True)
    return done.returncode, done.stderr


@pytest.mark.parametrize("how", ["name", "port"])
def test_op01_a_typing_mistake_in_the_only_server(mta, zone, server, how):
    """Mail waits and the operator is told; nothing bounces, though the name does not exist; put right, it goes."""
    srv = server()
    host, port = ("smpt.there.example", srv.port) if how == "name" else (free_address(), srv.port)
    dns = zone({"smtp.there.example A": [srv.address]})
    mta.start(dns + f'server "out" {{ host = "{host}" port = {port} tls = none }}\n')
    mta.drop(letter())
    mta.wait_log(f"server out: {re.escape(host)} does not take mail now")
    mta.wait_log("status=deferred")
    assert [m["sender"] for m in mta.queue()] == ["a@here.example"] and not mta.grep("status=bounced")
    mta.configure(dns + f'server "out" {{ host = "smtp.there.example" port = {srv.port} tls = none }}\n')
    mta.postern("reload", check=True)
    mta.postern("retry", "--all", check=True)
    srv.wait(1)
    mta.wait_empty()


@pytest.mark.parametrize("how, words", [("link", "drop: it is no folder, or a symbolic link"), ("file", "drop: it is no folder"),
                                        ("pid", "cannot lock .*Is a directory")])
def test_op06_what_stands_where_a_folder_should(mta, tmp_path, how, words):
    mta.start(OUT)
    mta.stop()
    (mta.spool / "drop").rmdir()
    if how == "link":
        (mta.spool / "drop").symlink_to(tmp_path)
    elif how == "file":
        (mta.spool / "drop").touch()
    else:
        (mta.spool / "run/master.pid").unlink()
        (mta.spool / "run/master.pid").mkdir()
    status, said = start_refused(mta)
    assert status == 71 and re.search(words, said), said


def test_op06_a_spool_in_memory_that_forbids_programs(small, server):
    """It is said that such mail does not outlast a power failure; and nothing is run from a spool."""
    mta, srv = small("size=200m,noexec"), server()
    mta.start(relay("out", srv))
    (mta.spool / "drop/m.tmp").write_bytes(letter())
    (mta.spool / "drop/m.tmp").rename(mta.spool / "drop/m")
    srv.wait(1)
    mta.wait_empty()
    assert "in memory: mail is lost when the power fails" in mta.stderr() + mta.log()


def test_op06_a_folder_mounted_from_elsewhere(small):
    """Messages are renamed from drop/ on, which leads into no other mount, be it of the same disk."""
    mta = small("size=200m")
    mta.start(OUT)
    mta.stop()
    other = mta.disk.path / "other"
    other.mkdir()
    subprocess.run(["mount", "--bind", other, mta.spool / "drop"], check=True)
    status, said = start_refused(mta)
    assert status == 78 and "drop is mounted from elsewhere than" in said and "one file system" in said
    subprocess.run(["umount", mta.spool / "drop"], check=True)
    mta.start()


SECRETS = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_text(""),
    "crlf": lambda path: path.write_bytes(b"secret\r\n"),
    "group-readable": lambda path: path.chmod(0o640),
    "world-readable": lambda path: path.chmod(0o604),
}


@pytest.mark.parametrize("fault", SECRETS)
def test_op02_one_servers_password_file_stops_nobody_else(mta, server, fault):
    """It is told, with status 78, by check; the start tells it too, and starts: that server's mail waits, the other's goes."""
    asked = []
    first = server(lambda s: (s.say("220 fake.example"), s.ehlo(["AUTH PLAIN"]), asked.append(s.line())))
    second = server()
    password = mta.dir / "password"
    password.write_text("secret\n")
    password.chmod(0o600)
    SECRETS[fault](password)
    mta.configure('route "first" { sender = { "first@here.example" } servers = { "first" } }\n'
                  + relay("first", first, f'username = "bob" password-file = "{password}" auth-without-tls = true')
                  + relay("second", second))
    assert mta.postern("check").returncode == 78
    done = mta.postern("start")
    try:
        assert done.returncode == 0 and f"password-file: {password}" in done.stderr and "starting all the same" in done.stderr
        mta.drop(letter(sender="first@here.example", ident="waits"))
        mta.drop(letter(ident="goes"))
        second.wait(1)
        mta.wait_log(f"server first cannot log in: {password}: ")
        assert mta.wait_log(r"server first is paused until|status=deferred \(.*password")
        wait_until(lambda: [m["sender"] for m in mta.queue()] == ["first@here.example"])
        assert not mta.grep("status=bounced")
        assert not any("secret" in line or line.startswith("AUTH") for line in asked)
        password.write_text("secret\n")
        password.chmod(0o600)
        assert mta.postern("reload").returncode == 0
        password.unlink()                               # on the run there is a configuration to stay with
        assert mta.postern("reload").returncode == 78
    finally:
        mta.postern("stop", check=True)


@ROOT_ONLY
@pytest.mark.parametrize("command", [
    "chown -R root:root db", "chown -R root:root queue", "chmod -R a-rwx db/queue", "chmod -R go-rwx queue", "chgrp -R root queue",
    "chown -R root:root history"])
def test_op09_owners_and_modes_that_somebody_changed(mta, server, command):
    srv = server(refuse(count=1))
    with_waiting_mail(mta, srv)
    subprocess.run(command.split(), cwd=mta.spool, check=True)
    status, said = start_refused(mta)
    assert status == 77 and f"{mta.spool}/{command.split()[-1].split('/')[0]}" in said and "`chown -R " in said, said
    subprocess.run(said.split("`")[1], shell=True, check=True)
    mta.start()
    assert mta.queue()[0]["attempts"] == 1          # the database is the one it was
    mta.postern("retry", "--all", check=True)
    srv.wait(1)
    mta.wait_empty()
    assert not mta.grep("set aside|possibly repeated")


@ROOT_ONLY
def test_op09_owners_changed_while_it_runs(mta, server):
    """A database that is kept from the scheduler is not a damaged one."""
    srv = server(refuse(count=1))
    mta.start('retry { after = { "1h" } }\n' + relay("out", srv))
    mta.drop(letter())
    mta.wait_log("status=deferred")
    folder = mta.spool / "db/queue"
    owner = folder.owner()
    subprocess.run(["chown", "-R", "root", folder], check=True)
    folder.chmod(0o755)
    mta.kill("scheduler")
    mta.wait_log(r"store: \S+ cannot be opened: Permission denied \(it belongs to uid 0 and has mode 0600; this process is uid \d+\)")
    subprocess.run(["chown", "-R", owner, folder], check=True)
    wait_until(lambda: mta.postern("retry", "--all").returncode == 0)
    srv.wait(1)
    mta.wait_empty()
    assert not mta.grep("set aside|possibly repeated")


def test_op09_modes_of_folders_are_mended(mta, server):
    """Folders hold nothing that could be misread: their modes are put right, all of them."""
    srv = server()
    mta.start(relay("out", srv))
    mta.stop()
    subprocess.run("find . -type d -exec chmod 0700 {} + && chmod 0600 run/empty", shell=True, cwd=mta.spool, check=True)
    mta.start()
    mta.drop(letter())
    srv.wait(1)
    mta.wait_empty()


# --- files that somebody edited, or that another version wrote

EDITS = {
    "recipient": lambda data: data.replace(b"rcpt=b@there", b"rcpt=c@there"),
    "a line more": lambda data: data.replace(b"hello", b"hello hello"),
    "cut short": lambda data: data[:-3],
    "next version": lambda data: data.replace(b"postern 1\n", b"postern 2\n"),
}


def queue_file(mta):
    path, = mta.spool.glob("queue/*/*")
    return path


def edit(path, how):
    """In place, as an editor does that keeps owner and mode. Returns what was there."""
    before = path.read_bytes()
    assert how(before) != before
    with open(path, "r+b") as file:
        file.write(how(before))
        file.truncate()
    return before


def is_held(mta):
    return mta.status()["queue"]["held"] == 1


@pytest.mark.parametrize("how", EDITS)
def test_op10_an_edited_queue_file_is_held(mta, server, how):
    """While it waits: the next attempt finds out, and nothing of it is sent; put right and released it goes as it came."""
    srv = server(refuse(count=1))
    mta.start('retry { after = { "1h" } }\n' + relay("out", srv))
    mta.drop(letter())
    mta.wait_log("status=deferred")
    before = edit(queue_file(mta), EDITS[how])
    mta.postern("retry", "--all", check=True)
    mta.wait_log("is damaged: held; nothing of it is sent")
    wait_until(lambda: is_held(mta))
    mta.postern("release", "--all", check=True)
    mta.wait_log("is damaged: held", times=2)       # still so
    wait_until(lambda: is_held(mta))
    edit(queue_file(mta), lambda _: before)
    mta.postern("release", "--all", check=True)
    message, = srv.wait(1)
    assert message.rcpts == ["<b@there.example>"] and message.data.endswith(b"\r\n\r\nhello\r\n")
    mta.wait_empty()
    assert not mta.grep("status=bounced")


@pytest.mark.parametrize("how, remedy", [("recipient", "release"), ("cut short", "restart"), ("next version", "restart")])
def test_op10_op12_a_file_that_is_not_understood_when_it_is_found(mta, server, how, remedy):
    """As after a downgrade: held, and taken in when it can be understood, by `release` or at the next start."""
    srv = server(refuse(count=1))
    with_waiting_mail(mta, srv)
    before = edit(queue_file(mta), EDITS[how])
    shutil.rmtree(mta.spool / "db/queue")
    mta.start()
    mta.wait_log("written by another version of Postern: held" if how == "next version" else "is damaged: held")
    assert is_held(mta) and not srv.messages
    mta.kill("scheduler")                           # nor is it forgotten
    wait_until(lambda: mta.postern("status").returncode == 0 and is_held(mta))
    mta.postern("release", "--all", check=True)
    assert is_held(mta)
    edit(queue_file(mta), lambda _: before)
    if remedy == "release":
        assert "1 message released" in mta.postern("release", "--all", check=True).stdout
    else:
        mta.restart()
    message, = srv.wait(1)
    assert message.rcpts == ["<b@there.example>"]
    mta.wait_empty()


def test_op10_an_edited_file_whose_time_is_over_is_kept(mta):
    """Its sender cannot be told, so it is set aside with the reason, and not removed."""
    mta.start(f'retry {{ after = {{ "1s" }} max-age = "2s" }}\nserver "out" {{ host = "{free_address()}" port = 2525 tls = none }}\n')
    mta.drop(letter())
    mta.wait_log("status=deferred")
    edit(queue_file(mta), EDITS["recipient"])
    mta.wait_empty()
    reason, = mta.spool.glob("dead/*.reason")
    assert "<b@there.example>" in reason.read_text() and "<a@here.example>" in reason.read_text()
    assert b"rcpt=c@there" in reason.with_suffix("").read_bytes()


def test_op09_a_queue_file_put_back_into_another_folder(mta, server):
    srv = server(refuse(count=1))
    with_waiting_mail(mta, srv)
    path = queue_file(mta)
    other = mta.spool / "queue" / ("00" if path.parent.name != "00" else "01")
    path.rename(other / path.name)
    mta.start()
    mta.postern("retry", "--all", check=True)
    srv.wait(1)
    mta.wait_empty()
    assert not mta.grep("gone|possibly repeated")


EVIL = {
    "nothing": b"",
    "no header": b"\0" * 5000,
    "no end of the header": b"postern 1\n" + b"id=0\n" * 20000,
    "a path for an id": b"postern 1\nid=../../etc/passwd\n\n",
    "a size beyond all bounds": b"postern 1\nid=%b\narrival=1\nuid=0\nsize=18446744073709551615\nflags=\nsender=\nrcpt=a@b.example\n"
                                b"sum=0000000000000000\n\nend\n",
    "a command in an address": b"postern 1\nid=%b\narrival=1\nuid=0\nsize=0\nflags=\nsender=a@b.example> SIZE=1\nrcpt=c@d.example\n"
                               b"sum=0000000000000000\n\nend\n",
}


def test_ip05_queue_files_that_pickup_never_wrote(mta, server):
    """Complete by their mode, in incoming/ and, wrongly, queue/00: all are held, nobody dies of them, other mail goes."""
    srv = server()
    mta.start(relay("out", srv))
    owner = (mta.spool / "incoming").stat().st_uid
    mta.stop()
    for n, content in enumerate(EVIL.values()):
        ident = f"6C3C0PFP000{n}0"
        path = mta.spool / ("incoming" if n % 2 else "queue/00") / ident
        path.write_bytes(content.replace(b"%b", ident.encode()))
        os.chown(path, owner, path.parent.stat().st_gid)
        path.chmod(0o740)
    mta.start()
    mta.drop(letter())
    srv.wait(1)
    mta.wait_log("is damaged: held", times=len(EVIL))
    assert len(srv.messages) == 1 and mta.status()["queue"]["held"] == len(EVIL)
    assert all(p["restarts"] == 0 for p in mta.status()["processes"])


# --- a server that refuses everything

LISTED = "554 5.7.1 your address is listed"


class Refusing:
    """A relay that refuses every recipient until it is mended."""

    def __init__(self, reply=LISTED, only=""):
        self.reply, self.only, self.refused = reply, only, 0

    def __call__(self, s):
        def rcpt(address):
            if not self.reply or self.only not in address:
                return None
            self.refused += 1
            return self.reply
        s.say("220 fake.example ESMTP")
        s.serve(rcpt=rcpt)


def drop_to_many(mta, count=40, domains=8, sender="a@here.example"):
    for i in range(count):
        mta.drop(letter(ident=f"m{mta.dropped}", sender=sender, to=f"r{i}@d{i % domains}.example"))


def bounced(mta):
    """Queue ids of messages with a sender that bounced."""
    ids = {re.search(r"([0-9A-V]{13}): ", line)[1] for line in mta.grep("status=bounced")}
    return {i for i in ids if mta.grep(f"{i}: from=<a@")}


@pytest.mark.parametrize("reply", [LISTED, "553 5.7.1 sender address rejected: not owned by you", "550 no"])
def test_op16_a_relay_that_refuses_everything(mta, server, reply):
    """A few bounce, then the relay is paused and all else waits; mended, it takes what waited, and its reports."""
    how = Refusing(reply)
    srv = server(how)
    mta.start('retry { max-retries = 1 after = { "1s" } }\n' + relay("out", srv, "max-connections = 2"))
    drop_to_many(mta)
    line, = mta.wait_log("server out is paused until .*: it refuses everything, so nothing bounces; the last: .*" + re.escape(reply))
    wait_until(lambda: all(m["queue_name"] == "deferred" and "paused" in str(m) for m in mta.queue()))
    assert 19 <= len(bounced(mta)) <= 20
    asked = how.refused
    mta.restart()                                   # tried again at once, and not believed
    wait_until(lambda: how.refused > asked and len(mta.grep("server out is paused until")) == 2)
    assert len(bounced(mta)) <= 20 and mta.status()["servers"][0]["state"] == "paused"
    how.reply = None
    mta.restart()
    mta.wait_log("server out: it takes mail again")
    mta.wait_empty()
    assert len([m for m in srv.messages if m.mail.startswith("<a@")]) == 40 - len(bounced(mta))
    how.reply, before = reply, len(bounced(mta))
    mta.drop(letter(ident="late"))
    wait_until(lambda: len(bounced(mta)) == before + 1)              # from now on it is believed again


@pytest.mark.parametrize("case", ["one domain", "one message", "some are taken", "too large", "reports"])
def test_op16_refusals_that_are_to_be_believed(mta, server, case):
    how = Refusing("552 5.3.4 too large" if case == "too large" else LISTED, only="r" if case == "some are taken" else "")
    srv = server(how)
    mta.start('postmaster = "chief@here.example"\n' + relay("out", srv, "max-connections = 1"))
    if case == "one message":
        mta.drop(letter(envelope_to=[f"r{i}@d{i}.example" for i in range(40)]))
    elif case == "some are taken":
        for i in range(40):
            mta.drop(letter(ident=str(i), to=f"{'good' if i % 10 == 9 else 'r'}{i}@d{i % 8}.example"))
    elif case == "reports":
        for i in range(40):
            mta.drop(letter(ident=str(i), sender="", envelope_to=[f"r{i}@d{i}.example"]))
    else:
        drop_to_many(mta, domains=1 if case == "one domain" else 8)
    mta.wait_empty()
    assert not mta.grep("is paused")


def test_op16_the_next_server_takes_what_the_last_one_refuses(mta, server):
    """What the first refuses is nobody's bounce while a second takes it."""
    first, second = server(Refusing()), server()
    mta.start(relay("first", first) + relay("second", second))
    drop_to_many(mta)
    second.wait(40)
    mta.wait_empty()
    assert not mta.grep("is paused|status=bounced")


@pytest.mark.parametrize("how", [Refusing(), lambda s: s.say(LISTED)], ids=["recipients", "greetings"])
def test_op16_direct_delivery_from_a_listed_address(mta, server, zone, how):
    """Whatever site is asked, it says the same."""
    srv = server(how)
    records = {f"mx.d{i}.example A": [srv.address] for i in range(40)}
    records.update({f"d{i}.example MX": [f"10 mx.d{i}.example"] for i in range(40)})
    mta.start(zone(records) + 'server "direct" { method = direct port = 2525 deny-addresses = {} tls = none }\n')
    drop_to_many(mta, domains=40)
    mta.wait_log("server direct is paused until .*: it refuses everything")
    wait_until(lambda: mta.status()["queue"]["active"] == 0)
    assert 19 <= len(bounced(mta)) <= 20
    assert len([m for m in mta.queue() if m["sender"]]) == 40 - len(bounced(mta))
