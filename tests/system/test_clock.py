"""The wall clock is set while mail waits: nothing expires, nothing bursts, nothing is stuck, order is kept (D7)."""
import email.utils
import re
import threading
import time
from pathlib import Path

import pytest
from fake_smtp import ordinary
from harness import wait_until
from test_deliver import letter
from test_failover import answers, relay
from test_replies import rules, server_of
from test_retry import refuse

HOUR = 3600 * 1000
DAY = 24 * HOUR
QUOTA = "550 5.4.5 Daily user sending quota exceeded."


def ids(mta):
    return [line.split("]: ")[1].split(":")[0] for line in mta.grep(r"pickup\[\d+\]: \w+: uid=")]


def test_ck01_forward_by_a_week_expires_nothing(faulty, server):
    """Mail of this morning is not five days old; not after a restart either, nor when it is set right again."""
    mta, srv = faulty(), server(refuse(count=12))
    mta.start('retry { after = { "1h" } max-age = "5d" warn-after = "4h" }\n' + relay("out", srv))
    for i in range(3):
        mta.drop(letter(ident=str(i)))
    mta.wait_log("status=deferred", times=3)
    for attempt, turn in enumerate((lambda: setattr(mta.faults, "clock_ms", 7 * DAY), mta.restart,
                                    lambda: setattr(mta.faults, "clock_ms", 0)), 2):
        sessions = len(srv.sessions)
        turn()
        mta.status()                            # whatever wakes the scheduler
        assert len(srv.sessions) == sessions or turn == mta.restart, "a retry in an hour has become one at once"
        mta.postern("retry", "--all")           # after a restart they may be on their way by themselves
        mta.wait_log(f"status=deferred.*attempt={attempt}", times=3)
    assert not mta.grep("status=bounced") and [m["sender"] for m in mta.queue()] == ["a@here.example"] * 3
    assert len(mta.grep("the clock was set forward by 604(799|800) s")) == 1
    assert len(mta.grep("the clock was set back by")) == 1
    mta.postern("retry", "--all", check=True)
    srv.wait(3)
    assert not [m for m in srv.messages if m.mail.startswith("<>")]


def test_ck01_a_message_expires_by_its_own_age_still(faulty, server):
    mta, srv = faulty("scheduler"), server(refuse())
    mta.start('retry { after = { "1h" } max-age = "3s" warn-after = "0s" }\n' + relay("out", srv))
    mta.drop(letter())
    mta.wait_log("status=deferred")
    mta.faults.clock_ms = 7 * DAY
    mta.status()
    assert not mta.grep("status=bounced")
    mta.wait_log("status=bounced.*dsn=4.4.7|dsn=4.4.7.*status=bounced", timeout=8)


def test_ck02_back_by_a_week_and_nothing_is_stuck(faulty, server):
    """A retry, mail behind a limit, and later arrivals go when they would have gone; order of arrival is kept."""
    mta, srv = faulty(), server(refuse(address="late", count=1))
    mta.start('retry { after = { "2s" } }\n' + relay("out", srv, 'limits = { "3/2s" }'))
    mta.drop(letter(to="late@there.example", ident="late"))
    mta.wait_log("status=deferred")
    for i in range(4):
        mta.drop(letter(ident=str(i)))
    wait_until(lambda: "waiting for limit" in str(mta.queue()))
    mta.faults.clock_ms = -7 * DAY
    mta.drop(letter(ident="new"))
    srv.wait(6)
    mta.wait_empty()
    assert ids(mta) == sorted(ids(mta)) and len(set(ids(mta))) == 6


def test_ck02_a_report_and_a_new_message_never_share_an_id(faulty, server):
    """With a clock that was set back ids count on from the last one: pickup's must not meet those of reports."""
    mta, srv = faulty(), server(lambda s: None)

    def script(s):
        s.say("220 fake.example ESMTP")
        s.serve(mail=lambda a: "451 4.2.0 not now" if a.startswith("<>") else None,
                rcpt=lambda a: "550 5.1.1 nobody" if "nobody" in a else None)
    srv.scripts = [script]
    mta.start('retry { after = { "1h" } }\n' + relay("out", srv))
    mta.drop(letter(ident="0"))
    srv.wait(1)
    mta.wait_empty()
    mta.faults.clock_ms = -7 * DAY
    mta.drop(letter(to="nobody@there.example", ident="1"))
    mta.wait_log("status=deferred")             # the report about it, which nobody takes
    mta.drop(letter(ident="2"))
    srv.wait(2)
    wait_until(lambda: len(mta.queue()) == 1)
    report, = mta.queue()
    assert report["sender"] == "" and report["queue_id"] not in ids(mta)


def test_ck02_a_pause_is_no_longer_than_it_was(faulty, server):
    full = [True]
    mta, srv = faulty(), server(answers(mail=QUOTA))
    srv.scripts = [lambda s: answers(mail=QUOTA if full[0] else None)(s)]
    mta.start(rules(mta, "code 550 enhanced 5.4.5 -> server pause 3s\n") + relay("out", srv))
    mta.drop(letter())
    mta.wait_log("server out is paused until")
    full[0] = False
    mta.faults.clock_ms = -7 * DAY
    assert server_of(mta)["state"] == "paused"
    srv.wait(1, timeout=10)


def test_ck03_forward_and_no_window_opens(faulty, sink):
    """Neither by the jump, nor by one more while the process is down; windows go by time that passed."""
    mta, out = faulty(), sink()
    mta.start(out.relay(more='limits = { "2/2s" }'))
    mta.faults.clock_ms = DAY
    for i in range(5):
        mta.drop(letter(ident=str(i)))
        if i == 2:
            out.wait(2)
            mta.faults.clock_ms = 7 * DAY
        if i == 3:
            mta.kill("limiter")
            mta.faults.clock_ms = 14 * DAY
    times = sorted(row["time"] for row in out.wait(5))
    assert all(c - a > 1.99 for a, c in zip(times, times[2:])), times
    mta.wait_empty()


def test_ck05_a_clock_that_starts_in_1970(faulty, server):
    """As after a boot with a flat battery: what came then is no older when the time is known."""
    mta, srv = faulty(), server(refuse(count=2))
    mta.faults.clock_ms = 86400000 - int(time.time() * 1000)
    mta.start('retry { after = { "1h" } max-age = "5d" }\n' + relay("out", srv))
    mta.drop(letter())
    mta.wait_log("status=deferred")
    mta.faults.clock_ms = 0
    mta.status()
    mta.postern("retry", "--all", check=True)
    mta.wait_log("status=deferred", times=2)
    mta.postern("retry", "--all", check=True)
    srv.wait(1)
    mta.wait_empty()
    assert not mta.grep("status=bounced")


@pytest.mark.parametrize("year", [1970, 2036])
def test_ck05_a_reboot_with_a_clock_that_is_wrong(faulty, server, year):
    """What waited, what comes, and what comes when the clock is right again, are as old as they are; ids stay in order."""
    mta, srv = faulty(), server(refuse())
    mta.start('retry { after = { "1h" } max-age = "5d" warn-after = "4h" }\n' + relay("out", srv))
    mta.drop(letter(ident="0"))
    mta.wait_log("status=deferred")
    mta.stop()
    off = int((year - 1970) * 365.25 * DAY + DAY - time.time() * 1000)
    mta.faults.reboot(off)
    mta.start()
    for waiting, turn in enumerate((lambda: None, lambda: setattr(mta.faults, "clock_ms", mta.faults.clock_ms - off), mta.restart), 2):
        turn()
        mta.drop(letter(ident=str(waiting)))
        mta.wait_log("status=deferred.*attempt=1", times=waiting)
        attempts = len(mta.grep("status=deferred"))
        mta.postern("retry", "--all", check=True)
        mta.wait_log("status=deferred", times=attempts + waiting)
    assert not mta.grep("status=bounced") and not [m for m in srv.messages if m.mail.startswith("<>")]
    assert ids(mta) == sorted(ids(mta)) and len(set(ids(mta))) == 4


@pytest.mark.parametrize("year", [1970, 2036])
def test_ck05_a_reboot_with_a_clock_that_is_wrong_grants_nothing_anew(faulty, sink, year):
    """Neither then nor when the clock is set right; rolling windows and calendars."""
    mta, out = faulty(), sink()
    mta.start(out.relay(more='limits = { "2/30d", "3/month calendar" }'))
    for i in range(4):
        mta.drop(letter(ident=str(i)))
    out.wait(2)
    wait_until(lambda: "waiting for limit" in str(mta.queue()))
    mta.stop()
    off = int((year - 1970) * 365.25 * DAY + DAY - time.time() * 1000)
    mta.faults.reboot(off)
    mta.start()
    for waiting, turn in enumerate((lambda: None, lambda: setattr(mta.faults, "clock_ms", mta.faults.clock_ms - off), mta.restart), 3):
        turn()
        mta.drop(letter())
        wait_until(lambda: len(mta.queue()) == waiting and str(mta.queue()).count("waiting for limit") == waiting)
        assert {row["limit"]: row["used"] for row in mta.json("limits")} == {"2/30d": 2, "3/month calendar": 2}
    assert out.count() == 2


def test_ck06_waits_count_while_the_machine_sleeps(faulty, server):
    """A retry and mail behind a limit go at once; the connection from before is not trusted."""
    mta, srv = faulty(), server(refuse(address="late", count=1))
    mta.start('retry { after = { "6h" } }\n' + relay("out", srv, 'limits = { "3/6h" }'))
    mta.drop(letter(to="late@there.example", ident="late"))
    mta.wait_log("status=deferred")
    for i in range(4):
        mta.drop(letter(ident=str(i)))
    mta.wait_log("status=sent", times=2)
    wait_until(lambda: "waiting for limit" in str(mta.queue()))
    mta.faults.sleep(12 * HOUR)
    srv.wait(5)
    mta.wait_empty()
    assert not mta.grep("the clock was set") and not mta.grep("no longer answers")


@pytest.mark.parametrize("verb", ["MAIL", "DATA", "."])
def test_ck06_what_was_under_way_before_a_sleep_is_done_again(faulty, server, verb):
    """Nothing is waited for on a connection whose other end has long given up."""
    asked = threading.Event()

    def script(s):
        s.say("220 fake.example ESMTP")
        s.serve(**{{"MAIL": "mail", "DATA": "data", ".": "dot"}[verb]: lambda *a: asked.set() or s.pause(60)})
    mta, srv = faulty(), server([script, ordinary])
    mta.start('retry { after = { "1s" } }\n' + relay("out", srv))
    mta.drop(letter())
    assert asked.wait(20)
    worker, = mta.pids("smtpout")
    wait_until(lambda: Path(f"/proc/{worker}/stat").read_text().rsplit(")")[-1].split()[0] == "S")    # it awaits the reply
    mta.faults.sleep(12 * HOUR)
    srv.wait(1)
    mta.wait_empty()
    assert len(mta.grep("possibly repeated")) == (verb == ".")


@pytest.mark.parametrize("zone,offset", [("Asia/Kolkata", r"\+0530"), ("America/St_Johns", "-0[23]30")])
def test_ck07_time_zone_of_the_host(mta, sink, zone, offset):
    plain, out = mta.environment, sink(record=True)
    mta.environment = lambda **more: plain(**{**more, "TZ": zone})
    mta.start(out.relay())
    mta.drop("X-Sender: <a@here.example>\nX-Receiver: <b@there.example>\nSubject: x\n\nx\n")
    out.wait(1)
    head = out.messages()[0][1].decode()
    date = re.search(r"^Date: (.*)\r$", head, re.M)[1]
    assert re.search(offset + "$", date), date
    assert abs(email.utils.parsedate_to_datetime(date).timestamp() - time.time()) < 60
