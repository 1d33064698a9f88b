"""kill -9 at a chosen call: before and after each write, rename, sync, unlink and packet of one process.

What random kills meet by luck is met here one after the other: a message and a report about it, each exactly once (CR01, CR02
taking over, CR04 and CR10 recording, CR11 removing, CR12 reporting, CR13 granting). A few points each in `make check`, all of
them in `make soak`.
"""
import os
import random
import re

import pytest
from harness import wait_until
from test_deliver import letter

SOAK = os.environ.get("POSTERN_SOAK") == "1"
POINTS = 8
FREE_RESTARTS = 3                               # then master begins to wait between them


def refuse_gone(s):
    s.say("220 fake.example ESMTP")
    s.serve(rcpt=lambda address: "550 5.1.1 no such user" if "gone" in address else None)


def arrived(srv):
    """(idents of messages, idents that reports speak of)"""
    ident = [(m.mail.startswith("<>"), re.findall(rb"Message-ID: <(\w+)@here\.example>", m.data)) for m in list(srv.messages)]
    return [found[0].decode() for is_report, found in ident if not is_report], \
        [found[-1].decode() for is_report, found in ident if is_report]


def send_one(mta, srv, ident):
    mta.drop(letter(ident=ident, envelope_to=["good@there.example", "gone@there.example"]))
    wait_until(lambda: ident in arrived(srv)[0] and ident in arrived(srv)[1], 30, f"{ident} and its report")
    mta.wait_empty()


@pytest.mark.parametrize("name", ["pickup", "scheduler", "limiter"])
@pytest.mark.final
def test_cr01_to_cr13_die_at_any_call(faulty, server, name):
    mta, srv = faulty(name), server(refuse_gone)
    mta.allow = ["signal 9"]
    mta.start('server "out" { host = "%s" port = %d tls = none limits = { "10000/hour", "10000/day recipients" } }\n' % (
        srv.address, srv.port))
    send_one(mta, srv, "warm")
    before = mta.faults.calls
    send_one(mta, srv, "measured")
    calls = range(1, mta.faults.calls - before + 1)
    points = list(calls) if SOAK or len(calls) <= POINTS else sorted(random.sample(calls, POINTS))
    print(f"{name}: {len(calls)} calls, dying at {points}")
    for n, point in enumerate(points):
        if n % FREE_RESTARTS == 0:
            mta.faults.countdown = 0
            mta.postern("reload", check=True)   # nothing is held against it any more
        mta.faults.countdown = point
        send_one(mta, srv, str(point))
    mta.faults.countdown = 0
    messages, reports = arrived(srv)
    wanted = sorted(["warm", "measured", *map(str, points)])
    assert sorted(messages) == wanted and sorted(reports) == wanted
    assert len(mta.grep(f"{name} .* was killed by signal 9")) >= len(points) * 2 // 3
