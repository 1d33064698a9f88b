"""A long queue costs next to nothing while it waits. (`make bench` does the same with 100,000.)"""
import measure
import pytest
from harness import SANITIZED, SLOW

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
