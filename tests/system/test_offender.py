"""A process that sends what no process in its right mind sends is not obeyed, and replaced; others live on (D9)."""
import fcntl
import os
import re

import pytest
from childproc import HEAD, MAGIC, VERSION, encode
from harness import wait_until
from test_deliver import letter
from test_master import wait_up

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the descriptors of processes that hide their memory")
FD_CTL_OUT, FD_PEER_OUT = 6, 17                 # where a child writes to master, and to its first partner


def generation_of(pid):
    with open(f"/proc/{pid}/cmdline") as file:
        return int(re.search(r"--generation\0(\d+)", file.read())[1])


def speak_as(pid, packet, fd=FD_PEER_OUT):
    """Into the pipe that it writes to, as a packet: else it may be read together with what the process itself says."""
    with open(f"/proc/{pid}/fd/{fd}", "wb", 0) as pipe:
        fcntl.fcntl(pipe, fcntl.F_SETFL, os.O_DIRECT)
        pipe.write(packet)


def garbage(generation, kind=40):
    return HEAD.pack(MAGIC, VERSION, kind, HEAD.size + 5, generation, 0, 0) + b"\xff" * 5


@pytest.fixture
def running(mta, sink):
    mta.allow = ["malformed packet"]
    mta.server = sink()
    mta.start("workers = 2\n" + mta.server.relay("out", 'limits = { "1000/hour" }'))
    wait_up(mta)
    return mta


def still_works(mta, ident):
    mta.drop(letter(ident=ident))
    mta.server.wait(1)


@pytest.mark.parametrize("name", ["pickup", "resolver", "limiter", "smtpout"])
def test_ip03_offender_is_replaced(running, name):
    def pids():
        return {p["pid"] for p in running.status()["processes"] if p["state"] == "up"}

    before = pids()
    pid = next(iter(running.pids(name)))
    speak_as(pid, garbage(generation_of(pid)))
    running.wait_log(rf"error: {name}\S* \(pid {pid}\) sent scheduler what no process in its right mind sends: killed")
    wait_until(lambda: pid not in pids() and len(pids()) == len(before))
    assert before - pids() == {pid}
    still_works(running, name)


def test_ip03_master_is_told_nonsense(running):
    pid, = running.pids("pickup")
    speak_as(pid, garbage(generation_of(pid), kind=3), FD_CTL_OUT)
    running.wait_log(rf"error: pickup \(pid {pid}\) sent master what no process in its right mind sends: killed")
    wait_until(lambda: pid not in running.pids() and running.pids("pickup"))
    still_works(running, "1")


def test_ip03_words_of_the_dead_are_no_offence(running):
    pid, = running.pids("limiter")
    speak_as(pid, garbage(generation_of(pid) + 1000))
    running.wait_log("malformed packet from limiter dropped")
    still_works(running, "1")
    assert list(running.pids("limiter")) == [pid]


def test_ip04_who_talks_to_the_network_is_not_believed(running):
    """A subverted worker accuses the scheduler."""
    pid, (scheduler,) = next(iter(running.pids("smtpout"))), running.pids("scheduler")
    packet = encode("OFFENDER", generation_of(pid), 0, role=2, index=0, generation=generation_of(scheduler))
    speak_as(pid, packet, FD_CTL_OUT)
    running.wait_log("warning: smtpout-. says that scheduler sends what it should not: nothing is done about it")
    still_works(running, "1")
    assert list(running.pids("scheduler")) == [scheduler]


def test_ip01_ip02_report_on_a_delivery_of_another_worker(mta, server):
    """It is not obeyed: the delivery's own worker has the say."""
    srv = server(lambda s: (s.say("220 fake.example ESMTP"), s.serve(dot=lambda _: s.pause(1))))
    mta.start(f'workers = 2\nserver "out" {{ host = "{srv.address}" port = {srv.port} tls = none }}\n')
    mta.drop(letter())
    wait_until(lambda: srv.sessions and "DATA" in srv.sessions[0].commands)
    queue_id = int(mta.queue()[0]["queue_id"], 32)
    for pid in list(mta.pids("smtpout")):       # one of them was given it; its successors are asked as well
        speak_as(pid, encode("REPORT", generation_of(pid), 0, sequence=9999, session=0, server=0, queue_id=queue_id, group=1,
                             attempt=1, verdict=2, cause=0, was_seen=1, after_dot=0, last=0, code=550, dsn="5.1.1", text="no", relay="none",
                             rcpts=[55]))
    mta.wait_log(r"smtpout . reports on a delivery that it was not given: ignored")
    mta.wait_log(r"error: smtpout-. \(pid \d+\) sent scheduler what no process in its right mind sends: killed")
    srv.wait(1)
    mta.wait_empty()
    assert not mta.grep("status=bounced") and len(srv.messages) == 1
