"""Traps that others fell into with sending limits, each as a test.

Elsewhere: when a day starts, test_limits.py (test_a_calendar_day_turns_at_midnight_of_its_zone) and, with daylight saving
time, tests/unit/limiter_calendar_test.c; the usual ring of B buckets that lets 2N through, tests/unit/limiter_window_test.c
(limit_holds_at_the_edge, random_bursts_keep_to_the_limit).
"""
import datetime
import os
import random
import re
import signal
import time
from collections import Counter

import measure
import peers
import pytest
from harness import wait_until
from test_replies import answers, relay


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


def test_one_recipient_then_two(mta, sink):
    """A permit that was too small for its delivery left it awake with nobody to call it: until the idle connection ended."""
    server = sink()
    mta.start(server.relay("out", 'limits = { "1000/hour" }'))
    for i in range(4):
        mta.drop(message(i, rcpts(1 + i % 2)))
        row = server.wait(i + 1)[i]
        mta.wait_empty()
    assert len({row["session"] for row in server.ledger()}) == 1, "it waited until the connection was closed"
    assert row["session"] == server.ledger()[0]["session"]


def test_bounces_have_no_sender_to_count(mta, sink):
    """Null-sender mail was counted and stalled the server."""
    server = sink()
    mta.start('limit-per-sender = { "2/hour" }\n' + server.relay("out"))
    for i in range(6):
        mta.drop(f"X-Sender: <>\nX-Receiver: <u{i}@there.example>\nFrom: a@here.example\nMessage-ID: <{i}@test>\n\nx\n")
    server.wait(6)


def used(mta, limit):
    return next(row["used"] for row in mta.json("limits") if row["limit"] == limit)


def drop_some(mta, count, first=0, **more):
    for i in range(first, first + count):
        mta.drop(message(i, [f"u{i}@there.example"], **more))


def test_two_an_hour_sends_two(mta, sink):
    """Off by one: 2 per hour sent 3. And five workers sent five times the limit."""
    server = sink()
    mta.start("workers = 4\n" + server.relay("out", 'limits = { "2/hour" }'))
    drop_some(mta, 12)
    server.wait(2)
    wait_until(lambda: len(waits(mta, r"^waiting for limit 2/hour of out until (\d{4}-\d\d-\d\d )?\d\d:\d\d$")) == 10)
    assert server.count() == 2


def test_recipients_are_counted_where_the_limit_says_so(mta, sink):
    """Messages were counted where the provider counts recipients."""
    server = sink()
    mta.start(server.relay("out", 'limits = { "6/hour recipients", "50/hour" }'))
    mta.drop(message(1, rcpts(4)))
    server.wait(1)
    mta.drop(message(2, rcpts(2)))
    mta.drop(message(3, ["one@there.example"]))
    server.wait(2)
    wait_until(lambda: len(waits(mta, "^waiting for limit 6/hour recipients of out")) == 1)
    assert (used(mta, "6/hour recipients"), used(mta, "50/hour")) == (6, 2)


def test_what_fits_exactly_does_not_wait(mta, sink):
    """The first permit, for one recipient, was given back behind the question for two: one too many, for a moment."""
    server = sink()
    mta.start(server.relay("out", 'limits = { "6/hour recipients" }'))
    mta.drop(message(1, rcpts(4)))
    server.wait(1)
    mta.drop(message(2, rcpts(2)))
    server.wait(2)
    assert not mta.grep("mail waits for limit")


def test_held_mail_is_released_by_itself_and_in_order(mta, sink):
    """Held mail was not released by itself; delayed mail was counted again at each turn so that nothing ever went."""
    server = sink()
    mta.start(server.relay("out", 'limits = { "2/second" }'))
    drop_some(mta, 7)
    ledger = server.wait(7)
    mta.wait_empty()
    times = sorted(row["time"] for row in ledger)
    assert all(c - a > 0.95 for a, c in zip(times, times[2:]))
    assert times[-1] - times[0] < 12


def test_a_release_lets_out_nothing_else(mta, sink):
    """A bulk release also let out mail held for another reason."""
    server = sink()
    mta.start(server.relay("out", 'limits = { "1/3s" }'))
    mta.postern("hold", "--all")
    mta.drop(message(1, ["first@there.example"]))
    server.wait(1)
    mta.drop(message(2, ["kept@there.example"]))
    wait_until(lambda: len(mta.queue()) == 1)
    mta.postern("hold", "--all", check=True)
    mta.drop(message(3, ["next@there.example"]))
    server.wait(2)
    assert [m["queue_name"] for m in mta.queue()] == ["hold"]
    assert [row["rcpts"] for row in server.ledger()] == [["first@there.example"], ["next@there.example"]]


def test_at_the_limit_nothing_spins_and_the_log_stays_quiet(mta, sink):
    """At the limit the scheduler spun and filled the log; waiting burns no attempt."""
    server = sink()
    mta.start(server.relay("out", 'limits = { "1/hour" }'))
    drop_some(mta, 200)
    server.wait(1)
    wait_until(lambda: len(waits(mta, "^waiting for limit 1/hour of out")) == 199)
    pid = next(iter(mta.pids("scheduler")))
    lines, before = len(mta.log().splitlines()), measure.cpu_seconds(pid)
    time.sleep(3)
    assert len(mta.log().splitlines()) == lines
    assert measure.cpu_seconds(pid) - before < 0.05
    assert {(m["attempts"], m["queue_name"]) for m in mta.queue()} == {(0, "deferred")}
    assert mta.status()["queue"] == {"waiting": 199, "active": 0, "held": 0, "incoming": 0}
    assert len(mta.grep("mail waits for limit 1/hour of out until")) == 1


def test_waiting_does_not_look_like_hanging(mta, sink):
    """Waiting looked like hanging: queue, limits, forecast and log say what is waited for, and until when."""
    server = sink()
    mta.start(server.relay("out", 'limits = { "200/hour", "1/day" }'))
    drop_some(mta, 2)
    server.wait(1)
    waiting, = wait_until(lambda: waits(mta, r"^waiting for limit 1/day of out until (\d{4}-\d\d-\d\d )?\d\d:\d\d$"))
    assert waiting["delay_reason"] in mta.postern("queue").stdout
    hour, day = mta.json("limits")
    assert (hour["limit"], hour["used"], hour["allowed"], hour["free_at"]) == ("200/hour", 1, 200, None)
    assert (day["limit"], day["used"], day["allowed"]) == ("1/day", 1, 1) and day["free_at"] > "20"
    assert "because of limit 1/day of server out" in mta.postern("forecast").stdout
    assert mta.grep("server out: mail waits for limit 1/day of out until")


def test_op04_zero_lets_nothing_pass_and_says_so(mta, sink):
    """0 or -1 meant "send nothing" by surprise."""
    server = sink()
    bad = mta.configure(server.relay("out", 'limits = { "-1/hour" }')).postern("check")
    assert bad.returncode == 78 and "0 lets nothing pass" in bad.stderr
    mta.start(server.relay("out", 'limits = { "0/hour" }'))
    drop_some(mta, 1)
    wait_until(lambda: waits(mta, "^waiting for limit 0/hour of out until it is changed$"))
    mta.configure(server.relay("out", 'limits = { "unlimited" }'))
    mta.postern("reload", check=True)
    server.wait(1)


def test_five_hundred_an_hour_can_be_written(mta, sink):
    """500 an hour could not be written."""
    server = sink()
    for limit in ("500/hour", "500/60m", "8/1m", "500/day calendar 00:00 America/Los_Angeles", "10000/month calendar",
                  "3/week calendar recipients"):
        assert mta.configure(server.relay("out", f'limits = {{ "{limit}" }}')).postern("check").returncode == 0, limit
    for limit in ("500", "500/fortnight", "/hour", "5/day calendar 25:00 UTC", "5/day calendar 00:00 Mars/Olympus",
                  "5/15m calendar"):
        assert mta.configure(server.relay("out", f'limits = {{ "{limit}" }}')).postern("check").returncode == 78, limit


def test_a_quota_shared_with_unseen_senders_can_be_said(mta, sink):
    """Others use the same quota: initial-used, limits set, limits reset; logged with who and why."""
    server = sink()
    mta.start(server.relay("out", 'limits = { "10/day", "5/hour" } initial-used = { "8/day" }'))
    drop_some(mta, 4)
    server.wait(2)
    wait_until(lambda: len(waits(mta, "^waiting for limit 10/day of out")) == 2)
    assert (used(mta, "10/day"), used(mta, "5/hour")) == (10, 2)
    mta.postern("limits", "set", "out", "10/day", 9, "--why", "the other host is off", check=True)
    server.wait(3)
    assert used(mta, "10/day") == 10
    mta.postern("limits", "reset", "out", "--why", "a new contract", check=True)
    server.wait(4)
    wait_until(lambda: used(mta, "10/day") == 1)
    assert mta.grep(f"operator uid {os.getuid()}: limits set out 10/day: the other host is off")
    assert mta.grep(f"operator uid {os.getuid()}: limits reset out: a new contract")
    assert mta.postern("limits", "reset", "nobody", "--why", "x").returncode == 1
    assert mta.postern("limits", "set", "out", "7/day", 9, "--why", "x").returncode == 1
    assert mta.postern("limits", "reset", "out").returncode == 64


def test_next_server_takes_what_is_over(mta, sink):
    """on-limit = next: over-limit mail goes elsewhere, at once."""
    first, second = sink(), sink()
    mta.start(first.relay("a", 'limits = { "2/hour" } on-limit = next') + second.relay("b"))
    drop_some(mta, 6)
    second.wait(4)
    mta.wait_empty()
    assert (first.count(), second.count()) == (2, 4)


def test_pace_spreads_and_never_bursts(mta, sink):
    server = sink()
    mta.start(server.relay("out", 'limits = { "10/5s" } pace = true'))
    drop_some(mta, 6)
    times = sorted(row["time"] for row in server.wait(6))
    assert all(b - a > 0.4 for a, b in zip(times, times[1:])), times
    assert times[-1] - times[0] < 5
    assert len(mta.grep("mail waits for limit")) == 1


def test_reserve_is_for_high_priority(mta, sink):
    server = sink()
    mta.start(server.relay("out", 'limits = { "10/hour" } reserve = "30% high"'))
    drop_some(mta, 9, more="X-Postern-Priority: bulk\n")
    server.wait(7)
    wait_until(lambda: len(waits(mta, "^waiting for limit 10/hour of out")) == 2)
    drop_some(mta, 4, first=20, more="X-Postern-Priority: high\n")
    server.wait(10)
    wait_until(lambda: len(waits(mta, "^waiting for limit 10/hour of out")) == 3)
    assert server.count() == 10


def test_ramp_begins_with_its_first_step(mta, sink):
    server = sink()
    mta.start(server.relay("out", 'limits = { "100/hour" } ramp = { "3/day", "6/day" }'))
    drop_some(mta, 5)
    server.wait(3)
    wait_until(lambda: len(waits(mta, "^waiting for limit 3/day of out")) == 2)


def test_a_quota_reply_corrects_the_counter(mta, server):
    """The provider counts what others sent, too: what it says of which quota wins, and bounces nothing."""
    fake = server(answers(mail="550 5.4.5 Daily user sending quota exceeded."))
    mta.start(relay(fake, more='limits = { "5/hour", "100/day", "1000/week" }'))
    drop_some(mta, 1)
    mta.wait_log("server out is paused until .*quota exceeded")
    wait_until(lambda: used(mta, "100/day") == 100)
    assert used(mta, "5/hour") < 2 and used(mta, "1000/week") < 2
    assert len(mta.queue()) == 1


@pytest.mark.parametrize("deed, full", [("quota 10m", "5/hour"), ("quota 10m day", "100/day"), ("quota 10m minute", None),
                                        ("pause 10m", None)])
def test_rules_say_which_quota_a_reply_speaks_of(mta, server, deed, full):
    """Not its words: a reply that happens to hold "quota" or "limit" once filled the limit nearest to its end."""
    (mta.dir / "replies.conf").write_text(f'ignore-shipped-rules\ncode 450 text "too fast" -> server {deed}\n')
    fake = server(answers(mail="450 4.7.1 too fast, see our quota and limits"))
    mta.start('reply-rules = "replies.conf"\n' + relay(fake, more='limits = { "5/hour", "100/day" }'))
    drop_some(mta, 1)
    mta.wait_log("server out is paused until .*too fast")
    wait_until(lambda: full is None or used(mta, full) == int(full.split("/")[0]))
    wait_until(lambda: all(used(mta, limit) == 1 for limit in ("5/hour", "100/day") if limit != full))


def test_refused_tries_count_unless_the_provider_says_otherwise(mta, server):
    """Refused tries restarted the provider's lock: what was refused counts, what never began does not."""
    fake = server(answers(rcpt="450 4.2.1 mailbox busy"))
    mta.start('retry { after = { "1h" } }\n' + relay(fake, more='limits = { "10/hour" }')
              + 'server "dead" { host = "127.0.0.9" port = 9 tls = none limits = { "10/hour recipients" } }\n')
    drop_some(mta, 2)
    mta.wait_log("status=deferred", times=2)
    wait_until(lambda: (used(mta, "10/hour"), used(mta, "10/hour recipients")) == (2, 0))


@pytest.mark.parametrize("method, counted", [("relay", 3), ("ses", 1)])
@pytest.mark.parametrize("command", ["mail", "rcpt", "data", "dot"])
def test_refused_tries_count_where_the_provider_counts_them(mta, server, method, counted, command):
    """Two are refused, at whatever command, then one is taken. A preset says what the provider counts: SES only what it took."""
    replies = ["451 4.3.0 not now", "451 4.3.0 not now", None]

    def script(s):
        s.say("220 fake.example")
        s.ehlo(["AUTH PLAIN"])
        s.expect("AUTH PLAIN")
        s.say("235 2.7.0 welcome")
        s.serve(**{command: lambda *_: replies.pop(0) if replies else None})

    fake = server(script)
    password = mta.dir / "password"
    password.touch(mode=0o600)
    password.write_text("secret\n")
    mta.start('retry { after = { "1h" } }\n' + f'''server "out" {{ method = {method} host = "{fake.address}" port = {fake.port} tls = none
              username = "bob" password-file = "{password}" auth-without-tls = true limits = {{ "100/hour", "100/hour recipients" }} }}\n''')
    for number in range(3):
        drop_some(mta, 1, first=number)
        mta.wait_log("status=(sent|deferred)", times=number + 1)
    wait_until(lambda: (used(mta, "100/hour"), used(mta, "100/hour recipients")) == (counted, counted))
    assert len(mta.grep("status=deferred")) == 2


@pytest.mark.alone
def test_no_window_is_over_at_the_receiver_with_four_workers_and_kills(mta, sink):
    """Counted at the receiving side, while every kind of process is killed at random."""
    rng = random.Random(4)
    server = sink()
    mta.allow = [r"signal 9"]
    mta.start("workers = 4\n" + server.relay("out", 'limits = { "40/2s", "300/30s" }'))
    drop_some(mta, 300)
    end = time.monotonic() + 60
    while server.count() < 200 and time.monotonic() < end:
        mta.kill(rng.choice(["limiter", "scheduler", "smtpout", "pickup"]))
        time.sleep(rng.uniform(0.3, 1.5))
    times = [row["time"] for row in server.wait(220, timeout=90)]
    assert_no_span_over(times, 40, 2)
    assert_no_span_over(times, 300, 30)


def assert_no_span_over(times, amount, seconds):
    times = sorted(times)
    for first, last in zip(times, times[amount:]):
        assert last - first > seconds - 0.002, f"{amount + 1} within {last - first:.4f} s"


def test_the_monthly_limit_survives_reload_and_restart(mta, sink):
    server = sink()
    conf = server.relay("out", 'limits = { "5/month", "50/month calendar" }')
    mta.start(conf)
    drop_some(mta, 2)
    server.wait(2)
    mta.configure(conf + "# new\n")
    mta.postern("reload", check=True)
    drop_some(mta, 1, first=2)
    server.wait(3)
    mta.restart()
    drop_some(mta, 4, first=3)
    server.wait(5)
    mta.kill_all_processes()
    mta.start()
    wait_until(lambda: len(waits(mta, "^waiting for limit 5/month of out until ")) == 2)
    wait_until(lambda: (used(mta, "5/month"), used(mta, "50/month calendar")) == (5, 5))
    assert server.count() == 5


def test_forecast_says_when_the_queue_will_be_gone(mta, sink):
    server = sink()
    mta.start(server.relay("out", 'limits = { "2/2s", "100/hour" }'))
    drop_some(mta, 9)
    server.wait(2)
    wait_until(lambda: len(waits(mta, "^waiting for limit 2/2s of out")) == 7)
    forecast, = mta.json("forecast")
    assert forecast["messages"] == 7
    assert forecast["decided_by"] == {"scope": "server", "name": "out", "limit": "2/2s"}
    mta.wait_empty()
    came = max(row["time"] for row in server.ledger())
    foretold = datetime.datetime.fromisoformat(forecast["done_at"].replace("Z", "+00:00")).timestamp()
    assert abs(came - foretold) < 1.6
    assert mta.json("forecast")[0]["messages"] == 0
    mta.postern("limits", "set", "out", "100/hour", 100, "--why", "test", check=True)
    drop_some(mta, 1, first=9)
    wait_until(lambda: waits(mta, "^waiting for limit 100/hour"))
    assert "because of limit 100/hour of server out" in mta.postern("forecast").stdout


def test_destinations_have_limits_of_their_own(mta, peer, sink):
    """By name and grouped by MX host; mail for others goes on."""
    servers = {name: sink() for name in ("small", "group", "other")}
    nsd = peer(peers.Nsd, [line for name, server in servers.items()
                           for line in (f"mx.{name} A {server.address}", f"{name} MX 10 mx.{name}")])
    mta.start(nsd.conf() + 'server "direct" { method = direct port = 2525 deny-addresses = {} limits = { "100/hour" } }\n'
              'destination "small.example" { limits = { "2/hour" } }\n'
              'destination "a group" { mx = { "*.group.example" } limits = { "3/hour" } }\n')
    for i in range(5):
        for name in servers:
            mta.drop(message(f"{i}{name}", [f"b@{name}.example"]))
    for name, count in (("small", 2), ("group", 3), ("other", 5)):
        servers[name].wait(count)
    wait_until(lambda: len(waits(mta, r"^waiting for limit 2/hour of destination small.example until")) == 3)
    wait_until(lambda: len(waits(mta, r"^waiting for limit 3/hour of destination a group until")) == 2)
    assert [servers[name].count() for name in servers] == [2, 3, 5]


def test_who_sleeps_for_want_of_a_permit_is_not_forgotten(mta, sink):
    """Two senders wait for one permit; when it is used, the other's turn comes, though nothing else happens."""
    server = sink()
    mta.start(server.relay("out", 'limits = { "1000/hour" }'))
    limiter, = mta.pids("limiter")
    os.kill(limiter, signal.SIGSTOP)
    for sender in ("one", "two"):
        mta.drop(f"From: {sender}@here.example\nTo: b@there.example\n\nhello\n")
        mta.wait_log(f"from=<{sender}@here.example>.*queue active")
    os.kill(limiter, signal.SIGCONT)
    server.wait(2)


@pytest.mark.parametrize("restart", ["none", "scheduler killed", "all"])
def test_time_that_we_hold_mail_for_a_limit_is_no_age(mta, server, restart):
    """The expiry clock stands still meanwhile, and the time is not forgotten when the scheduler is started anew."""
    fake = server(answers(rcpt=lambda: "450 4.2.1 mailbox busy" if len(fake.messages) else None))
    mta.allow = [r"signal 9"]
    mta.start('retry { max-age = "4s" after = { "1h" } warn-after = "0s" }\n' + relay(fake, more='limits = { "1/10s" }'))
    drop_some(mta, 1)
    fake.wait(1)
    drop_some(mta, 1, first=1)
    wait_until(lambda: waits(mta, "^waiting for limit 1/10s of out"))
    time.sleep(5.5)                                     # longer than it may be on the way
    if restart == "scheduler killed":
        mta.kill("scheduler")
    elif restart == "all":
        mta.restart()
    mta.wait_log("status=deferred.*mailbox busy", timeout=30)
    assert len(mta.queue()) == 1 and not mta.grep("status=(bounced|expired)")


@pytest.mark.parametrize("window, waits_for", [("hour", "delivery temporarily suspended: .*refused"), ("8s", "waiting for limit 1/8s of a")])
def test_over_limit_mail_waits_for_whichever_server_comes_first(mta, sink, window, waits_for):
    """on-limit = next and the next is down: such mail stuck to the server that was full, though for a day."""
    first = sink()
    mta.start('retry { after = { "1h" } }\n' + first.relay("a", f'limits = {{ "1/{window}" }} on-limit = next')
              + 'server "b" { host = "127.0.0.9" port = 9 tls = none }\n')
    drop_some(mta, 1)
    first.wait(1)
    drop_some(mta, 1, first=1)
    mta.wait_log("status=deferred.*refused")                # b is known to be down
    drop_some(mta, 1, first=2)
    wait_until(lambda: len(waits(mta, waits_for)) == 1)
    message = next(m for m in mta.queue() if m["attempts"] == 0)
    if window == "hour":
        assert message["next_attempt"] and message["queue_name"] == "deferred"
    else:
        assert len(first.wait(2, timeout=20)) == 2


def test_the_second_full_server_does_not_keep_what_the_first_could_send_sooner(mta, sink):
    """Both are full: mail waits where a window opens first, not at the last of the list."""
    first, second = sink(), sink()
    mta.start(first.relay("a", 'limits = { "1/6s" } on-limit = next') + second.relay("b", 'limits = { "1/hour" }'))
    drop_some(mta, 3)
    first.wait(2, timeout=20)
    assert (first.count(), second.count()) == (2, 1)
