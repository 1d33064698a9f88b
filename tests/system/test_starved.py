"""Processes that are stopped, or get no descriptors, no memory, no successor: the others go on, nothing is lost (D5)."""
import os
import re
import signal
import subprocess
import time

import measure
import pytest
from harness import SANITIZED, SLOW, wait_until
from test_deliver import letter
from test_master import CHILDREN, processes, wait_up


def ids(rows):
    return sorted(row["id"] for row in rows)


def drop_some(mta, first, count):
    for i in range(first, first + count):
        mta.drop(letter(ident=str(i)))
    return sorted(f"<{i}@here.example>" for i in range(first + count))


def start(mta, sink, more=""):
    """Direct and under limits: every process has a part in each message."""
    mta.server = sink()
    return mta.start(more + mta.server.relay("out", 'limits = { "1000/hour" }'))


def test_re15_no_local_address_is_left(mta, sink):
    """EADDRNOTAVAIL, as when all ports are taken: our own trouble. Mail waits, and the server is not said to be down."""
    out = sink()
    more = 'source-addresses = { "192.0.2.77" }'         # nobody's: it is for documentation
    mta.start('retry { after = { "1h" } }\n' + out.relay("out", more))
    mta.drop(letter())
    line, = mta.wait_log("status=deferred .*annot assign requested address")
    assert not mta.grep("does not take mail now") and mta.status()["servers"][0]["state"] == "up"
    mta.configure(out.relay("out"))
    mta.postern("reload", check=True)
    mta.postern("retry", "--all", check=True)
    out.wait(1)
    mta.wait_empty()


@pytest.mark.parametrize("name", CHILDREN)
def test_re13_stopped_for_good_is_replaced(mta, sink, name):
    plain = mta.environment
    mta.environment = lambda **more: plain(POSTERN_TEST_HEARTBEAT_MS=str(200 * SLOW), **more)
    start(mta, sink)
    wait_up(mta)
    wanted = drop_some(mta, 0, 20)
    pid, = mta.kill(name, signal.SIGSTOP)
    drop_some(mta, 20, 20)
    mta.wait_log(rf"error: {name}\S* \(pid {pid}\) no longer answers: killed")
    wanted = drop_some(mta, 40, 1)
    rows = mta.server.wait(41)
    mta.wait_empty()
    assert sorted(set(ids(rows))) == wanted
    repeated = len(rows) - 41
    assert repeated == 0 or name == "smtpout" and len(mta.grep("possibly repeated")) >= repeated


@pytest.mark.parametrize("name", ["scheduler", "smtpout"])
def test_re13_stopped_for_a_moment_is_left_alone(mta, sink, name):
    plain = mta.environment
    mta.environment = lambda **more: plain(POSTERN_TEST_HEARTBEAT_MS=str(700 * SLOW), **more)
    start(mta, sink)
    pid, = mta.kill(name, signal.SIGSTOP)
    wanted = drop_some(mta, 0, 5)
    time.sleep(0.8 * SLOW)                      # a heartbeat is missed, three are allowed
    mta.kill(name, signal.SIGCONT)
    assert ids(mta.server.wait(5)) == wanted
    assert list(mta.pids(name)) == [pid]


def limit(pid, what, amount=""):
    """The soft limit, as the process's own user, who needs no privilege for it; none: as much as is allowed."""
    with open(f"/proc/{pid}/status") as file:
        status = dict(line.split(":", 1) for line in file)
    uid, gid = status["Uid"].split()[0], status["Gid"].split()[0]
    become = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups"] if os.geteuid() == 0 else []
    amount = amount or subprocess.run(["prlimit", "--pid", str(pid), f"--{what}", "--raw", "--noheadings", "-o", "HARD"],
                                      capture_output=True, text=True).stdout.strip()
    subprocess.run([*become, "prlimit", "--pid", str(pid), f"--{what}={amount}:"], check=True)


@pytest.mark.parametrize("name", CHILDREN)
def test_re07_no_more_descriptors(mta, sink, name):
    """It waits for better times without spinning, loses nothing, and goes on when there are some again."""
    start(mta, sink, 'retry { after = { "1s" } }\n')
    wanted = drop_some(mta, 0, 1)
    mta.server.wait(1)
    wait_until(lambda: mta.status()["servers"][0]["connections"] == 0)
    pid, = mta.pids(name)
    limit(pid, "nofile", 10)
    wanted = drop_some(mta, 1, 10)
    before = measure.cpu_seconds(pid)
    mta.postern("queue")
    time.sleep(1)
    assert not mta.pids(name).get(pid) or measure.cpu_seconds(pid) - before < 0.3 * SLOW, "it spins"
    if pid in mta.pids(name):
        limit(pid, "nofile", 1024)
    rows = mta.server.wait(11)
    mta.wait_empty()
    assert ids(rows) == wanted
    assert mta.postern("queue").returncode == 0


@pytest.mark.skipif(SANITIZED, reason="the sanitizers need much address space")
@pytest.mark.parametrize("name", ["pickup", "scheduler", "smtpout"])
def test_re08_no_more_memory(mta, sink, name):
    """It ends where it cannot go on, and its successor finds everything where it was."""
    start(mta, sink)
    drop_some(mta, 0, 1)
    mta.server.wait(1)
    pid, = mta.pids(name)
    with open(f"/proc/{pid}/status") as file:
        limit(pid, "as", int(re.search(r"VmSize:\s+(\d+)", file.read())[1]) * 1024 + (1 << 18))
    many = "".join(f"X-Receiver: <u{i}@there.example>\n" for i in range(9000))
    mta.drop(f"X-Sender: <a@here.example>\n{many}Subject: x\nMessage-ID: <1@here.example>\n\n" + ("x" * 70 + "\n") * 50000)
    wanted = drop_some(mta, 2, 30)
    mta.wait_log(rf"postern/{name}\[{pid}\]: error: out of memory")
    wait_until(lambda: set(wanted) | {"<1@here.example>"} <= set(ids(mta.server.ledger())))
    if name == "smtpout":                       # what hung at its final dot waits for its next attempt
        wait_until(lambda: mta.postern("retry", "--all") and not mta.queue())
    mta.wait_empty()
    recipients = [rcpt for row in mta.server.ledger() if row["id"] == "<1@here.example>" for rcpt in row["rcpts"]]
    assert len(recipients) == len(set(recipients)) == 9000 or name == "smtpout" and len(set(recipients)) == 9000


def test_re08_successor_cannot_be_started(faulty, sink):
    """Tried again, more and more rarely, while the others work; mail flows when it can be."""
    mta = faulty("pickup")
    start(mta, sink)
    script = mta.bin.parent.parent / "libexec/postern/pickup"
    aside = script.with_name("aside")
    script.rename(aside)
    others = {n: p["pid"] for n, p in wait_up(mta).items() if n != "pickup"}
    mta.kill("pickup")
    mta.wait_log("pickup died 2 times in a row: starting it again in")
    wanted = drop_some(mta, 0, 3)
    assert len(mta.grep("starting it again")) < 8
    aside.rename(script)
    assert ids(mta.server.wait(3)) == wanted
    assert {n: p["pid"] for n, p in processes(mta).items() if n != "pickup"} == others
