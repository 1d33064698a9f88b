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
