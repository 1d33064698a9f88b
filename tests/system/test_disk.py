"""The disk of a running instance is full, has no inodes, fails, stalls, or may not be written: what is known to be
delivered is not sent again, nothing is lost, and it goes on by itself (D5)."""
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from faults import READ_ONLY, STALL
from harness import wait_until
from test_deliver import letter
from test_failover import relay


def drop_many(mta, count, first=0, **more):
    for i in range(first, first + count):
        mta.drop(letter(ident=str(i), **more))


def put(mta, name, text):
    """By rename, from the same file system."""
    path = mta.disk.path / f"new-{name}"
    path.write_bytes(text)
    path.chmod(0o644)
    path.rename(mta.spool / "drop" / name)


def counted(srv):
    return sorted(m.data.split(b"Message-ID: <")[1].split(b"@")[0].decode() for m in srv.messages)


def test_cr04_into_the_queue_when_it_can_be(mta, server):
    """The record is made, the file cannot be moved: it is tried again, and not sent before."""
    srv = server()
    mta.start(relay("out", srv))
    folders = list((mta.spool / "queue").iterdir())
    for folder in folders:
        folder.chmod(0o550)
    drop_many(mta, 3)
    mta.wait_log("cannot move incoming/.*: Permission denied; tried again soon", times=3)
    assert not srv.messages and not mta.grep("status=")
    for folder in folders:
        folder.chmod(0o2750)
    srv.wait(3, timeout=10)
    mta.wait_empty()
    assert counted(srv) == ["0", "1", "2"]


class Gate:
    """Until it opens a server does not answer the final dot of mail to held@."""

    def __init__(self):
        self.event, self.waiting = threading.Event(), 0

    def dot(self, message):
        if "held" in str(message.rcpts):
            self.waiting += 1
            self.event.wait(60)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.event.set()


def refuse_or_hold(taking, gate=None):
    """later@ and gone@ hear 451 until `taking` is set, then gone@ hears 550."""
    def rcpt(address):
        if not taking.is_set():
            return "451 4.2.0 later" if "later" in address or "gone" in address else None
        return "550 5.1.1 no such user" if "gone" in address else None

    def script(s):
        s.say("220 fake.example ESMTP")
        s.serve(rcpt=rcpt, dot=gate and gate.dot)
    return script


def test_re02_full_while_outcomes_come_in(small, server, gate):
    """Delivered is delivered: kept in memory, and by the worker too, until it can be written down. Then mail goes on."""
    mta, taking = small("size=40m"), threading.Event()      # too small for a ballast
    srv = server(refuse_or_hold(taking, gate))
    mta.start('retry { after = { "1h" } }\n' + relay("out", srv))
    for i in range(2, 102):
        put(mta, f"m{i}", letter(ident=str(i), to="later@there.example"))
    mta.wait_log("status=deferred", times=100)
    for i in range(2):
        put(mta, f"m{i}", letter(ident=str(i), to="held@there.example"))
    wait_until(lambda: gate.waiting == 2)
    scheduler = mta.pids("scheduler")
    mta.disk.fill()
    mta.postern("retry", "--all")
    mta.wait_log("no space left for the queue database: outcomes wait to be recorded, nothing new is sent")
    gate.event.set()
    srv.wait(2)
    begin = time.monotonic()
    assert sum(mta.status()["queue"].values()) >= 100 and len(mta.queue()) >= 100
    assert time.monotonic() - begin < 15, "operators wait for the disk"
    assert mta.pids("scheduler") == scheduler
    mta.kill("scheduler")                       # what it could not write down the worker still knows
    mta.wait_log("queue database db/queue needs free disk space to recover")
    taking.set()
    mta.disk.empty()
    wait_until(lambda: mta.status()["queue"] and mta.postern("retry", "--all").returncode, timeout=30)
    srv.wait(102)
    mta.wait_empty()
    assert counted(srv) == sorted(str(i) for i in range(102))


def test_re03_no_inodes_for_what_is_queued(small, server):
    """A delivery needs none; a report does, and waits for it."""
    mta, taking = small("size=60m,nr_inodes=3000"), threading.Event()
    srv = server(refuse_or_hold(taking))
    mta.start('retry { after = { "1h" } }\n' + relay("out", srv, 'limits = { "1000/hour" }'))
    for i in range(30):
        put(mta, f"m{i}", letter(ident=str(i), to="later@there.example" if i else "gone@there.example"))
    mta.wait_log("status=deferred", times=30)
    mta.disk.use_up_inodes()
    taking.set()
    mta.postern("retry", "--recipient", "later@there.example", check=True)
    srv.wait(29)
    mta.wait_log("status=sent", times=29)
    wait_until(lambda: len(mta.queue()) == 1)
    mta.disk.use_up_inodes()
    mta.postern("retry", "--all", check=True)
    mta.wait_log("cannot write a report about undelivered mail: No space left on device; tried again later")
    mta.disk.free_inodes()
    srv.wait(30, timeout=15)
    mta.wait_empty()
    assert len([m for m in srv.messages if m.mail.startswith("<>")]) == 1


def test_re06_read_only_while_mail_flows(faulty, server, gate):
    """What hangs behind its dot is finished and written down when it can be; nothing else is begun; nothing comes twice."""
    mta, taking = faulty(), threading.Event()
    srv = server(refuse_or_hold(taking, gate))
    mta.start('retry { after = { "1h" } }\n' + relay("out", srv, 'limits = { "1000/hour" }'))
    drop_many(mta, 3, to="later@there.example")
    mta.wait_log("status=deferred", times=3)
    drop_many(mta, 2, first=3, to="held@there.example")
    wait_until(lambda: gate.waiting == 2)
    mta.faults.on(READ_ONLY)
    drop_many(mta, 1, first=5)
    gate.event.set()
    srv.wait(2)
    mta.wait_log("queue database.*(Read-only file system|cannot be opened)", timeout=10)
    assert len(srv.messages) == 2
    taking.set()
    mta.faults.off(READ_ONLY)
    srv.wait(3, timeout=30)
    mta.postern("retry", "--all")
    srv.wait(6)
    mta.wait_empty()
    assert counted(srv) == [str(i) for i in range(6)]


def test_stalled_disk(faulty, server):
    """Nobody hangs with it: operators are told, and when it moves again so does the mail."""
    mta, srv = faulty("scheduler", "limiter"), server()
    mta.start(relay("out", srv, 'limits = { "1000/hour" }'))
    mta.faults.on(STALL)
    drop_many(mta, 3)
    wait_until(lambda: mta.faults.stalled)
    begin = time.monotonic()
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(mta.postern, command) for command in ("status", "queue")]
        status, queue = (one.result() for one in asked)
    assert time.monotonic() - begin < 15
    assert status.returncode == 0 and "scheduler" in status.stdout and "does not answer" in status.stderr
    assert queue.returncode == 75 and "does not answer" in queue.stderr
    mta.faults.off(STALL)
    srv.wait(3)
    mta.wait_empty()
    assert counted(srv) == ["0", "1", "2"]
