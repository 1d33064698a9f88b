"""What operators do to an instance by mistake (D8): each is named in plain words, nothing is lost, nothing is sent twice."""
import os
import subprocess

import pytest

from harness import wait_until
from test_deliver import letter
from test_failover import relay
from test_retry import refuse

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files of other users")


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
        assert not mta.grep("status=bounced") and [m["sender"] for m in mta.queue()] == ["first@here.example"]
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
