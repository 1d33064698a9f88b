"""Traps that others fell into with sending limits, each as a test."""
import re
from collections import Counter

from harness import wait_until


def message(number, rcpts, sender="a@here.example", more=""):
    receivers = "".join(f"X-Receiver: <{rcpt}>\n" for rcpt in rcpts)
    return (f"X-Sender: <{sender}>\n{receivers}{more}From: a@here.example\nTo: undisclosed:;\nMessage-ID: <{number}@test>\n"
            f"Subject: {number}\n\nhello\n")


def rcpts(count, domain="there.example"):
    return [f"u{i}@{domain}" for i in range(count)]


def test_more_recipients_than_the_limit_go_in_parts(mta, sink):
    """A delivery with more recipients than a limit's whole amount once stalled its server for ever."""
    server = sink()
    mta.start(server.relay("out", 'limits = { "3/2s recipients" }'))
    mta.drop(message(1, rcpts(7)))
    mta.drop(message(2, ["other@there.example"]))
    ledger = server.wait(4, timeout=30)
    mta.wait_empty()
    assert sorted(r for row in ledger for r in row["rcpts"]) == sorted(rcpts(7) + ["other@there.example"])
    assert max(len(row["rcpts"]) for row in ledger) == 3
    sends = [(row["time"], len(row["rcpts"])) for row in ledger]
    for start, _ in sends:
        assert sum(n for at, n in sends if start <= at < start + 1.95) <= 3


def waits(mta, pattern):
    """Recipients in the queue whose delay reason matches."""
    return [r for m in mta.queue() for r in m["recipients"] if re.search(pattern, r.get("delay_reason", ""))]


def test_limits_of_every_scope_hold_together(mta, sink):
    """Server, route, sender and instance at once; mail that falls under a full one stands in nobody's way."""
    server = sink()
    mta.start(f'''limits = {{ "9/hour" }}
limit-per-sender = {{ "3/hour" }}
{server.relay("out", 'limits = { "100/hour" }')}
route "slow" {{ sender = {{ "news@here.example" }} servers = {{ "out" }} limits = {{ "2/hour" }} }}
''')
    for i in range(5):
        mta.drop(message(i, [f"n{i}@there.example"], "news@here.example"))
    for i in range(5):
        mta.drop(message(10 + i, [f"a{i}@there.example"], "a@here.example"))
    for i in range(3):
        mta.drop(message(20 + i, [f"b{i}@there.example"], f"b{i}@here.example"))
    server.wait(8)                                           # 2 of the route, 3 of a, 3 others
    wait_until(lambda: len(waits(mta, r"^waiting for limit 2/hour of route slow until ")) == 3)
    assert len(waits(mta, r"^waiting for limit 3/hour of sender a@here.example until ")) == 2
    mta.drop(message(30, ["c@there.example"], "c@here.example"))
    mta.drop(message(31, ["d@there.example"], "d@here.example"))
    wait_until(lambda: len(waits(mta, r"^waiting for limit 9/hour of this instance until ")) == 1)
    ledger = server.wait(9)
    assert Counter(row["sender"] for row in ledger)["news@here.example"] == 2
    assert Counter(row["sender"] for row in ledger)["a@here.example"] == 3
    mta.restart()                                            # nothing is forgotten
    wait_until(lambda: len(waits(mta, "^waiting for limit")) == 6)
    assert server.count() == 9


def test_bounces_have_no_sender_to_count(mta, sink):
    """Null-sender mail was counted and stalled the server."""
    server = sink()
    mta.start('limit-per-sender = { "2/hour" }\n' + server.relay("out"))
    for i in range(6):
        mta.drop(f"X-Sender: <>\nX-Receiver: <u{i}@there.example>\nFrom: a@here.example\nMessage-ID: <{i}@test>\n\nx\n")
    server.wait(6)
