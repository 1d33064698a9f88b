"""Later: when a message is tried again, when it is given up, what its sender hears; and the operator's hand in it."""
import email
import email.utils
import re
import signal
import time

import pytest
from fake_smtp import free_address, ordinary
from harness import wait_until
from test_deliver import bounce_parts, letter
from test_failover import after_the_dot, answers, is_victim, relay

LATER = "451 4.2.0 come back later"


def refuse(address=None, reply=LATER, count=10 ** 9, seen=None):
    """A script: RCPT of the test's recipients gets reply, the first `count` times."""
    left = [count]

    def rcpt(a):
        if not (is_victim(a) if address is None else address in a):
            return None
        if seen is not None:
            seen.append(time.monotonic())
        left[0] -= 1
        return reply if left[0] >= 0 else None

    def script(s):
        s.say("220 fake.example ESMTP")
        s.serve(rcpt=rcpt)
    return script


def report_in(messages):
    found = [m for m in messages if m.mail.startswith("<>")]
    assert len(found) == 1, f"{len(found)} reports"
    return found[0]


def test_waits_follow_the_list_and_the_last_repeats(mta, server):
    seen = []
    srv = server(refuse(count=4, seen=seen))
    mta.start('retry { after = { "1s", "2s", "1s" } }\n' + relay("out", srv))
    mta.drop(letter())
    srv.wait(1)
    waits = [b - a for a, b in zip(seen, seen[1:])]
    assert len(waits) == 4
    for wait, wanted in zip(waits, (1, 2, 1, 1)):
        assert wanted - 0.05 <= wait < wanted + 0.9, waits
    assert [int(re.search(r"attempt=(\d+)", line)[1]) for line in mta.grep("status=deferred")] == [1, 2, 3, 4]
    mta.wait_log(r"status=sent .*attempt=5\b")
    mta.wait_empty()


def test_max_retries(mta, server):
    seen = []
    srv = server(refuse(seen=seen))
    mta.start('retry { after = { "1s" } max-retries = 1 }\n' + relay("out", srv))
    mta.drop(letter())
    report = report_in(srv.wait(1))
    assert len(seen) == 2 and report.rcpts == ["<a@here.example>"]
    mta.wait_empty()
    assert len(mta.grep(r"status=deferred .*attempt=1")) == 1 and len(mta.grep("status=bounced")) == 1


def test_expiry(mta, server):
    """4.4.7, with what the server said last; the last try comes when the time is over."""
    seen = []
    srv = server(refuse(seen=seen))
    mta.start('retry { after = { "1h" } max-age = "2s" warn-after = "0s" }\n' + relay("out", srv))
    mta.drop(letter())
    _, text, status, _ = bounce_parts(report_in(srv.wait(1)).data)
    assert len(seen) == 2 and 1.5 < seen[1] - seen[0] < 3
    assert status[1]["Status"] == "4.4.7" and status[1]["Action"] == "failed" and "come back later" in text
    line, = mta.wait_log("status=bounced")
    assert "dsn=4.4.7" in line and "come back later" in line
    mta.wait_empty()


def test_expiry_tells_of_each_recipient_what_was_said_of_it(mta, server):
    said = {"full": "452 4.2.2 mailbox full", "busy": "451 4.3.0 come back later"}
    srv = server(lambda s: (s.say("220 hi"), s.serve(rcpt=lambda a: said.get(a[1:5]))))
    mta.start('retry { after = { "1h" } max-age = "1s" warn-after = "0s" }\n' + relay("out", srv))
    mta.drop(letter(envelope_to=["full@there.example", "busy@there.example"]))
    _, text, status, _ = bounce_parts(report_in(srv.wait(1)).data)
    lines = mta.wait_log("status=bounced", times=2)
    for name, reply in said.items():
        line, = [line for line in lines if f"to=<{name}@" in line]
        assert f"said: {reply} (" in line and f"relay={srv.address}[" in line and "dsn=4.4.7" in line and "server=out" in line, line
        part, = [part for part in status[1:] if name in part["Final-Recipient"]]
        assert part["Diagnostic-Code"] == f"smtp; {reply}" and part["Status"] == "4.4.7"


def test_expiry_while_the_server_is_down(mta, server):
    """No attempt of its own is needed: mail that was only ever parked is given up too, and its sender told before."""
    up = [False]

    def script(s):
        if not up[0]:
            s.say("421 4.3.2 not now")
            s.close()
        s.say("220 fake.example ESMTP")
        s.serve()

    srv = server(script)
    mta.start('retry { after = { "1s" } max-age = "4s" warn-after = "2s" }\n' + relay("out", srv))
    mta.drop(letter(ident="probe"))
    mta.wait_log("status=deferred")
    mta.drop(letter(ident="parked"))
    mta.wait_log("dsn=4.4.7.*status=bounced|status=bounced.*4.4.7", times=2)
    up[0] = True
    mta.wait_empty()
    subjects = [email.message_from_bytes(m.data).get("Subject") for m in srv.messages]
    assert len(srv.messages) == 4 and all(m.mail.startswith("<>") for m in srv.messages), subjects


def test_delay_notice_once(mta, server):
    srv = server(refuse())
    mta.start('retry { after = { "1s" } warn-after = "1s" }\n' + relay("out", srv))
    mta.drop(letter())
    notice = report_in(srv.wait(1))
    _, text, status, _ = bounce_parts(notice.data)
    assert status[1]["Action"] == "delayed" and "Will-Retry-Until" in status[1]
    mta.wait_log("status=deferred", times=4)
    assert len(srv.messages) == 1
    mta.restart()                               # and not again after a restart
    mta.wait_log("status=deferred", times=6)
    assert len(srv.messages) == 1


def test_one_delay_notice_for_many_deliveries(mta, zone, server):
    """Fifty domains that are late make one notice, not fifty."""
    srv = server(answers(rcpt=None))
    srv.scripts = [refuse(address="late")]
    records = {"mx.example A": [srv.address]}
    records.update({f"late{i}.example MX": ["10 mx.example"] for i in range(50)})
    records["here.example MX"] = ["10 mx.example"]
    mta.start(zone(records) + 'retry { after = { "1s" } warn-after = "1s" }\n'
              'server "direct" { method = direct port = 2525 deny-addresses = {} tls = none }\n')
    mta.drop(letter(envelope_to=[f"b@late{i}.example" for i in range(50)]))
    srv.wait(1)
    mta.wait_log("status=deferred", times=150)
    _, _, status, _ = bounce_parts(report_in(srv.messages).data)
    assert len(status) - 1 >= 25


def test_greylisting_has_its_own_wait(mta, server):
    seen = []
    srv = server(refuse(reply="450 4.2.0 you are greylisted", count=1, seen=seen))
    mta.start('retry { after = { "1h" } greylist-after = "1s" }\n' + relay("out", srv))
    mta.drop(letter())
    srv.wait(1)
    assert 0.95 <= seen[1] - seen[0] < 3
    mta.wait_empty()


def test_greylisted_at_the_first_and_refused_at_the_second(mta, server):
    """No other server took it: the shorter wait holds whichever server was asked last."""
    first, second = server(refuse(reply="450 4.2.0 greylisted, try again", count=1)), server(refuse(reply="451 4.3.0 disk full"))
    mta.start('retry { after = { "1h" } greylist-after = "1s" }\n' + relay("first", first) + relay("second", second))
    mta.drop(letter())
    first.wait(1, timeout=10)


def test_unknown_outcome_is_flagged(mta, server):
    srv = server(after_the_dot(""))
    mta.start('retry { after = { "1s" } }\n' + relay("out", srv))
    name = mta.drop(letter())
    srv.wait(1)
    line, = mta.grep("possibly repeated")
    assert name and re.search(r": [0-9A-V]{13}: ", line)
    mta.wait_empty()


def test_unknown_outcome_closes_nothing_else(mta, server):
    """Beside a recipient whose outcome is unknown, one that another server might take is not bounced."""
    def script(s):
        s.say("220 fake.example ESMTP")
        s.ehlo()
        rcpts = 0
        while not (line := s.line().upper()).startswith("DATA"):
            rcpts += line.startswith("RCPT")
            s.say("550 5.7.1 not from you" if "POLICY" in line else "250 2.1.0 ok")
        assert rcpts == 2
        s.say("354 go")
        s.data()
        s.close()

    first, second = server([script, refuse(address="policy", reply="550 5.7.1 not from you")]), server()
    mta.start('retry { after = { "1s" } }\n' + relay("first", first) + relay("second", second))
    mta.drop(letter(envelope_to=["b@there.example", "policy@there.example"]))
    message, = second.wait(1)
    assert message.rcpts == ["<policy@there.example>"] and not mta.grep("status=bounced")
    assert [m.rcpts for m in first.wait(1)] == [["<b@there.example>"]]
    mta.wait_empty()


def test_mixed_outcomes_one_report(mta, server):
    """100 recipients, a third each of taken, later, never: one report, of the failed ones only, each of the others once."""
    tried = {}

    def rcpt(address):
        name = address.strip("<>").split("@")[0]
        tried[name] = tried.get(name, 0) + 1
        if name.startswith("never"):
            return "550 5.1.1 no such user"
        return LATER if name.startswith("later") and tried[name] == 1 else None

    def script(s):
        s.say("220 fake.example ESMTP")
        s.serve(rcpt=rcpt)

    srv = server(script)
    names = [f"{('good', 'later', 'never')[i % 3]}{i}" for i in range(100)]
    mta.start('retry { after = { "1s" } }\n' + relay("out", srv))
    mta.drop(letter(envelope_to=[f"{n}@there.example" for n in names]))
    mta.wait_log("removed", times=2)
    mta.wait_empty()
    mail = [m for m in srv.messages if m.mail.startswith("<a@")]
    got = sorted(r.strip("<>").split("@")[0] for m in mail for r in m.rcpts)
    assert got == sorted(n for n in names if not n.startswith("never"))
    _, text, status, _ = bounce_parts(report_in(srv.messages).data)
    failed = sorted(part["Final-Recipient"].split(";")[1].strip().split("@")[0] for part in status[1:])
    assert failed == sorted(n for n in names if n.startswith("never"))
    assert all(tried[n] == 1 for n in names if n.startswith("never"))


@pytest.mark.parametrize("victim", ["scheduler", "smtpout"])
def test_mixed_outcomes_survive_a_death(mta, server, victim):
    """CR05, CR09: A recipient refused before the final dot was reported and acknowledged: it is named once all the same."""
    def script(s):
        s.say("220 fake.example ESMTP")
        s.serve(rcpt=lambda a: "550 5.1.1 no such user" if "never" in a else None, data=lambda: s.pause(0.7))

    srv = server(script)
    mta.start('retry { after = { "1s" } }\n' + relay("out", srv))
    mta.drop(letter(envelope_to=["good@there.example", "never@there.example"]))
    wait_until(lambda: srv.sessions and "DATA" in srv.sessions[0].commands, what="DATA")
    mta.kill(victim, signal.SIGKILL)
    mta.wait_log("removed", times=2)
    mta.wait_empty()
    assert [m.rcpts for m in srv.messages if m.mail.startswith("<a@")] == [["<good@there.example>"]]
    assert len(report_in(srv.messages).rcpts) == 1


def test_op15_reports_nobody_takes(mta, server):
    """To the sender, then to the postmaster, then aside: each once."""
    srv = server(refuse(address="@", reply="550 5.1.1 no such user"))
    mta.start('postmaster = "chief@here.example"\n' + relay("out", srv))
    mta.drop(letter())
    mta.wait_empty()
    dead = wait_until(lambda: list((mta.spool / "dead").iterdir()))
    assert len([path for path in dead if path.suffix != ".reason"]) == 1 and not srv.messages
    tried = [re.search("<([^>]*)>", c)[1] for s in srv.sessions for c in s.commands if c.upper().startswith("RCPT")]
    assert tried == ["b@there.example", "a@here.example", "chief@here.example"]


# --- the operator

def test_hold_release_retry_delete(mta, server):
    srv = server(refuse(count=3))
    mta.start(relay("out", srv))                # the next attempt by itself would come in an hour
    for i in range(3):
        mta.drop(letter(ident=str(i)))
    mta.wait_log("status=deferred", times=3)
    one, two, three = (m["queue_id"] for m in mta.queue())
    assert "1 message held" in mta.postern("hold", one, check=True).stdout
    assert [m["queue_name"] for m in mta.queue()] == ["hold", "deferred", "deferred"]
    assert "1 message deleted" in mta.postern("delete", two, check=True).stdout
    mta.wait_log(f"{two}: removed")
    assert mta.postern("delete", two).returncode == 1 and mta.postern("hold").returncode == 64
    assert mta.postern("retry", "--sender", "nobody@here.example").returncode == 1
    mta.restart()                               # held mail stays held, deleted mail gone
    assert [(m["queue_id"], m["queue_name"]) for m in mta.queue()] == [(one, "hold"), (three, "deferred")]
    mta.postern("retry", "--all", check=True)
    srv.wait(1)
    mta.wait_log(f"{three}: removed")
    assert [m["queue_id"] for m in mta.queue()] == [one]
    mta.postern("release", one, check=True)
    srv.wait(2)
    mta.wait_empty()
    assert not any((mta.spool / "queue").rglob(two))


def test_delete_of_many_domains_while_lanes_hold_them(mta, zone, server):
    """All deliveries of a message at once, wherever they wait; and the next message finds lists that are whole."""
    srv = server(answers())
    records = {"mx.example A": [srv.address]}
    records.update({f"d{i}.example MX": ["10 mx.example"] for i in range(30)})
    mta.start(zone(records) + 'server "direct" { method = direct port = 2525 deny-addresses = {} tls = none limits = { "1/30s" } }\n')
    mta.drop(letter(to="b@d0.example", ident="first"))
    srv.wait(1)
    mta.drop(letter(envelope_to=[f"b@d{i}.example" for i in range(30)], ident="many"))
    message, = wait_until(lambda: [m for m in mta.queue() if "waiting for limit" in str(m)])
    assert len(message["recipients"]) == 30
    mta.drop(letter(to="b@d1.example", ident="beside"))
    wait_until(lambda: len(mta.queue()) == 2)
    wait_until(lambda: "1 message deleted" in mta.postern("delete", message["queue_id"], check=True).stdout)
    mta.wait_log(f"{message['queue_id']}: removed")
    beside, = mta.queue()
    assert "1 message held" in mta.postern("hold", beside["queue_id"], check=True).stdout
    mta.postern("release", "--all", check=True)
    assert "1 message deleted" in wait_until(lambda: (done := mta.postern("delete", "--all")).returncode == 0 and done.stdout)
    mta.wait_empty()
    assert len(srv.messages) == 1


def test_delete_much(mta, server):
    srv = server(refuse(address="@"))
    mta.start(relay("out", srv))
    for i in range(500):
        mta.drop(letter(ident=str(i)))
    mta.wait_log("status=deferred", times=500, timeout=60)
    assert "500 messages deleted" in mta.postern("delete", "--all", check=True).stdout
    mta.wait_empty()
    assert mta.queue() == []


# --- limits

def test_mail_that_waits_for_a_limit(mta, sink):
    """Shown with its reason, no connection meanwhile, nothing polls, and it goes by itself."""
    out = sink()
    mta.start(out.relay(more='limits = { "2/6s" }'))
    for i in range(3):
        mta.drop(letter(ident=str(i)))
    out.wait(2)
    waiting, = wait_until(lambda: [m for m in mta.queue() if "waiting for limit 2/6s of out" in str(m)])
    assert waiting["attempts"] == 0 and waiting["server"] == "out"
    wait_until(lambda: mta.status()["servers"][0]["connections"] == 0, what="idle connections to be closed")
    pid, = mta.pids("scheduler")

    def switches():
        with open(f"/proc/{pid}/status") as file:
            return sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)

    before = switches()
    time.sleep(1)
    assert switches() - before <= 2 and mta.status()["servers"][0]["connections"] == 0
    rows = out.wait(3)
    assert rows[2]["time"] - rows[0]["time"] >= 5.99 and len({row["session"] for row in rows}) <= 3
    mta.wait_empty()


def test_permits_come_back(mta, server):
    """Deliveries handed back untouched give their permits back: what two lost connections ate is what they saw."""
    def rude(s):
        s.say("220 fake.example ESMTP")
        s.ehlo(["PIPELINING"])
        s.close()

    srv = server([rude, rude, ordinary])
    mta.start('retry { after = { "1s" } }\n' + relay("out", srv, 'limits = { "22/hour" } max-connections = 1'))
    for i in range(20):
        mta.drop(letter(ident=str(i)))
    srv.wait(20)
    mta.wait_empty()


def test_more_recipients_than_the_limit_lets_through_at_once(mta, sink):
    out = sink()
    mta.start(out.relay(more='limits = { "3/2s recipients" }'))
    mta.drop(letter(envelope_to=[f"u{i}@there.example" for i in range(8)]))
    wait_until(lambda: sum(len(row["rcpts"]) for row in out.ledger()) == 8, 30, "8 recipients")
    assert max(len(row["rcpts"]) for row in out.ledger()) <= 3
    mta.wait_empty()


# --- dates

def test_send_after_is_no_age(mta, server):
    """A message sent at a later date has all of its time from then on."""
    seen = []
    srv = server(refuse(count=1, seen=seen))
    mta.start('retry { after = { "1s" } max-age = "4s" warn-after = "0s" }\n' + relay("out", srv))
    when = email.utils.formatdate(int(time.time()) + 5)
    mta.drop(f"X-Postern-Send-After: {when}\n".encode() + letter())
    srv.wait(1)
    mta.wait_empty()
    assert len(seen) == 2 and not mta.grep("status=bounced")


def test_send_after_outlasts_what_operators_do(mta, server):
    """Held, released, tried again now: not before its date."""
    srv = server(answers())
    mta.start(relay("out", srv))
    mta.drop(b"X-Postern-Send-After: Fri, 02 Jan 2100 00:00:00 +0000\n" + letter(ident="later"))
    wait_until(lambda: len(mta.queue()) == 1)
    for turn in (("hold",), ("release",), ("retry",), ()):
        if turn:
            mta.postern(*turn, "--all", check=True)
        else:
            mta.restart()
        mta.drop(letter())
        mta.wait_log("status=sent", times=len(srv.messages) + 1)
    wait_until(lambda: len(mta.queue()) == 1)
    later, = mta.queue()
    assert later["next_attempt"].startswith("2100-01-0") and later["attempts"] == 0


# --- a broken domain among good ones

def test_a_broken_domain_keeps_its_waits(mta, zone, server):
    """Its mail is not tried again whenever another domain's question is answered."""
    srv = server(answers())
    records = {"mx.example A": [srv.address], "broken.example": "servfail"}
    records.update({f"d{i}.example MX": ["10 mx.example"] for i in range(20)})
    mta.start(zone(records) + 'server "direct" { method = direct port = 2525 deny-addresses = {} tls = none }\n')
    mta.drop(letter(to="b@broken.example", ident="broken"))
    mta.wait_log("status=deferred", timeout=60)
    for i in range(20):
        mta.drop(letter(to=f"b@d{i}.example", ident=str(i)))
        srv.wait(i + 1)
    assert len(mta.grep("status=deferred")) == 1


def test_the_sender_hears_of_a_failure_while_others_are_still_tried(mta):
    """One recipient does not exist, another is deferred for long: one report at once, and none about the first at the end."""
    from fake_smtp import Server

    def rcpt(address):
        return "550 5.1.1 nobody here" if "bad" in address else "451 4.3.0 later" if "slow" in address else None

    def script(s):
        s.say("220 fake.example ESMTP")
        s.serve(rcpt=rcpt)

    with Server(script) as server:
        mta.start('retry { after = { "2s", "1h" } max-age = "4s" warn-after = "0s" }\n' + relay("out", server))
        mta.drop(letter(envelope_to=["good@there.example", "bad@there.example", "slow@there.example"]))
        reports = wait_until(lambda: [m for m in server.messages if m.mail.startswith("<>")], 10)
        assert mta.grep("status=deferred") and mta.queue()[0]["recipients"][0]["address"] == "slow@there.example"
        assert b"bad@there.example" in reports[0].data and b"Final-Recipient: rfc822; slow" not in reports[0].data
        mta.kill("scheduler")
        mta.wait_empty(30)
        reports = [m for m in server.messages if m.mail.startswith("<>")]
        assert len(reports) == 2
        assert b"Final-Recipient: rfc822; slow" in reports[1].data and b"Final-Recipient: rfc822; bad" not in reports[1].data


def test_a_message_for_ten_thousand_is_listed(mta):
    """Its line is longer than one portion of the answer may be: that was refused as too long."""
    mta.start(f'server "out" {{ host = "{free_address()}" tls = none }}\n')
    many = "".join(f"X-Receiver: <a-recipient-number-{i}@there.example>\n" for i in range(10000))
    mta.drop(f"X-Sender: <a@here.example>\n{many}Subject: x\n\nx\n")
    mta.wait_log("status=deferred")
    message, = mta.queue()
    assert len({row["address"] for row in message["recipients"]}) == 10000
    assert all("Connection refused" in row["delay_reason"] for row in message["recipients"])
    assert mta.postern("queue").stdout.count("@there.example") == 10000
