"""RE10: a long queue costs next to nothing while it waits. (`make bench` does the same with 100,000.)"""
import measure
import pytest
from harness import SANITIZED, SLOW, wait_until

pytestmark = pytest.mark.alone
# What does not grow with the queue: the database's cache, the first pages of each table.
FIXED_BYTES = 512 * 1024
COUNT = 2000 if SANITIZED else 20000


def test_long_queue(mta, sink):
    cost = measure.long_queue(mta, sink(), COUNT, 5)
    assert cost["first_s"] < 10 * SLOW, cost  # how fast it really is, `make bench` says
    assert cost["bytes_each"] * COUNT <= 64 * COUNT + FIXED_BYTES or SANITIZED, cost
    # Heartbeats and pickup's rescan of drop/ may fall into the time watched; work for the messages may not.
    assert len(cost["calls"]) <= 60, "\n".join(cost["calls"])
    assert cost["listed"] >= COUNT


def test_a_filter_of_ages_takes_nothing_by_overflow(mta):
    """Milliseconds beyond 63 bits: no mail is as old as that, rather than all of it."""
    mta.start('server "out" { host = "127.0.0.1" port = 9 tls = none }\n')
    mta.drop("From: a@here.example\nTo: x@there.example\nX-Postern-Send-After: Fri, 01 Jan 2100 00:00:00 +0000\n\nx\n")
    wait_until(lambda: len(mta.json("queue")) == 1)
    assert mta.postern("hold", "--older", "20000000000w").returncode == 1
