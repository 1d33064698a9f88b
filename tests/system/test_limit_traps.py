"""Traps that others fell into with sending limits, each as a test."""
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
