"""Servers that do harm, through the whole pipeline: cases HS that need more than one connection or more than smtpout.
What one connection shows is in test_smtp.py, what needs none in tests/unit/smtpout_engine_test.c, under the same ids."""
import pytest

from test_deliver import RETRY, letter


def relay(server, name="out", more=""):
    return f'server "{name}" {{ method = relay host = "{server.address}" port = {server.port} tls = none {more} }}\n'


# --- HS22: pipelining is offered, and what comes ahead of its turn is lost

def throw_away(s):
    """What has come so far."""
    s.pause(0.1)
    s.buffer = b""
    s.sock.setblocking(False)
    try:
        while s.sock.recv(65536):
            pass
    except BlockingIOError:
        s.sock.setblocking(True)


def loses_input_behind(*verbs):
    def script(s):
        s.say("220 fake.example ESMTP")
        while True:
            verb = s.line().upper()[:4]
            if verb == "DATA":
                s.say("354 go")
                s.server.add(s.data())
                verb = "dot"
            if verb in verbs:
                throw_away(s)
            s.say({"EHLO": "250-fake.example\n250 PIPELINING", "QUIT": "221 bye"}.get(verb, "250 ok"))
            if verb == "QUIT":
                return
    return script


@pytest.mark.parametrize("verbs, count", [(["MAIL", "RCPT"], 1), (["dot"], 4)], ids=["in-a-flight", "behind-the-dot"])
def test_hs22_a_site_that_loses_what_is_sent_ahead_gets_one_command_at_a_time(mta, server, verbs, count):
    """Twice it costs a time-out, then never again: also after a restart. What hung behind a dot was no attempt."""
    srv = server(loses_input_behind(*verbs))
    mta.start(RETRY + relay(srv, more='timeout = "1s" max-connections = 1'))
    mta.drop_many(count, lambda i: letter(ident=i))
    srv.wait(count)
    mta.wait_empty()
    deferred = 2 if count == 1 else 0
    assert len(mta.grep("loses what is sent ahead")) == 1 and len(mta.grep("status=deferred")) == deferred
    assert len(srv.sessions) == 3 and len(srv.messages) == count
    mta.restart()
    mta.drop_many(count, lambda i: letter(ident=f"later{i}"))
    srv.wait(2 * count)
    mta.wait_empty()
    assert len(srv.sessions) == 4 and len(mta.grep("status=deferred")) == deferred


# --- what all MX hosts say in their greetings

def greets(banner):
    def script(s):
        s.say(banner)
        s.serve()
    return script


@pytest.mark.parametrize("has_relay", [False, True], ids=["direct-only", "and-a-relay"])
@pytest.mark.parametrize("banner, dsn", [("220 mail.here.example ESMTP", "5.4.6"), ("554 5.7.1 no mail from you", "5.7.1")],
                         ids=["HS38-our-own-name", "HS29-refused"])
def test_mail_bounces_when_every_mx_host_greets_so_and_nobody_else_may_carry_it(mta, server, zone, banner, dsn, has_relay):
    """The reports go to a domain of their own."""
    bad, good = server(greets(banner)), server()
    mta.start(RETRY + zone({"there.example MX": ["10 mx1.there.example", "20 mx2.there.example"], "mx1.there.example A": [bad.address],
                            "mx2.there.example A": [bad.address], "here.example A": [good.address]}) +
              'server "direct" { method = direct port = 2525 tls = none deny-addresses = {} }\n' +
              (relay(good) if has_relay else ""))
    mta.drop(letter())
    message, = good.wait(1)
    mta.wait_empty()
    assert len(bad.sessions) == 2 and not bad.messages
    if has_relay:
        assert message.rcpts == ["<b@there.example>"] and not mta.grep("status=(bounced|deferred)")
    else:
        assert message.rcpts == ["<a@here.example>"] and f"Status: {dsn}".encode() in message.data
        assert len(mta.grep(rf"dsn={dsn}, status=bounced")) == 1


def test_hs29_mail_that_a_relay_may_take_later_is_not_said_to_bounce(mta, server, zone):
    """The relay said later, then all MX hosts refuse in their greetings: it waits, and the log says just that."""
    never, later = server(greets("554 5.7.1 no mail from you")), server(
        lambda s: (s.say("220 hi"), s.serve(rcpt=lambda a: None if len(never.sessions) > 1 else "451 4.3.0 later")))
    mta.start(RETRY + zone({"there.example A": [never.address]}) + relay(later) +
              'server "direct" { method = direct port = 2525 tls = none deny-addresses = {} }\nservers = { "out", "direct" }\n')
    mta.drop(letter())
    line, = mta.wait_log("no mail from you.*status=|status=.*no mail from you")
    assert "status=deferred" in line and " next=2" in line
    assert len(mta.queue()) == 1 and mta.status()["servers"][0]["bounced"] == 0
    mta.postern("delete", "--all", check=True)


# --- HS43: what came whole is refused for now, though it is kept

def test_hs43_waits_double_where_each_attempt_may_be_a_copy(mta, server):
    kept = []

    def script(s):
        s.say("220 fake.example ESMTP")
        s.serve(dot=lambda m: kept.append(m) or ("451 4.3.0 queue file write error" if len(kept) <= 2 else None))
    srv = server(script)
    mta.start(RETRY + relay(srv))
    mta.drop(letter())
    srv.wait(1)
    lines = mta.grep("status=deferred")
    assert len(lines) == 2 and all(line.endswith(" dup=possible") for line in lines)
    assert len(kept) == 3 and kept[1].time - kept[0].time > 0.9 and kept[2].time - kept[1].time > 1.9


# --- HS34: slow at every step, never too slow

def test_hs34_a_greeting_that_never_ends_takes_its_time_as_a_whole(mta, server):
    """Each reply would come in time; all of them together are more than any server needs."""
    def script(s):
        s.pause(0.6)
        s.say("220 slow.example")
        s.line()
        s.pause(0.6)
        s.say("250-slow.example\n250 AUTH SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN")
        while True:
            s.line()
            s.pause(0.6)
            s.say("504 5.5.4 not this one")
    slow, second = server(script), server()
    login = 'timeout = "1s" username = "bob" password = "secret" auth-without-tls = true'
    mta.configure(relay(slow, "slow", login) + relay(second, "second"))
    mta.conf.chmod(0o600)
    mta.start()
    mta.drop(letter())
    second.wait(1)
    mta.wait_log("server slow failed: .*timed out while logging in")


def test_hs26_too_many_recipients_is_temporary_whatever_the_code(mta, server):
    """552 for it, as RFC 821 had it: those are tried again, a full mailbox bounces."""
    replies = {"many": "552 Too many recipients", "full": "552 5.2.2 mailbox full"}

    def script(s):
        s.say("220 fake.example ESMTP")
        s.serve(rcpt=lambda a: replies.get(a[1:].split("@")[0]))
    srv = server(script)
    mta.start(relay(srv))
    mta.drop(letter(sender="", envelope_to=["one@there.example", "many@there.example", "full@there.example"]))
    mta.wait_log("to=<many@there.example>.*status=deferred")
    mta.wait_log("to=<full@there.example>.*status=bounced")
    mta.wait_log("to=<one@there.example>.*status=sent")
