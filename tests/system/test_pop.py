"""POP before SMTP: Dovecot's POP3 in every way, servers that misbehave (TL19), one visit for all workers."""
import re
import threading
import time

import peers
import pytest
from fake_smtp import Server, free_address
from harness import wait_until
from test_deliver import letter
from test_login import PASSWORD, no_secret_anywhere, pki, secret  # noqa: F401: fixtures


def pop_server(smtp, host, port, file, more="", tls="tls = none", user="bob", name="out", outside=""):
    return f'''server "{name}" {{ method = relay host = "{smtp.address}" port = {smtp.port} tls = none {outside}
                pop-before-smtp {{ host = "{host}" port = {port} {tls} username = "{user}" password-file = "{file}" {more} }} }}\n'''


class Pop(Server):
    """A scripted POP3 server: like the SMTP one, with fewer words. Counts logins and how many were under way at once."""

    def __init__(self, script=None, **options):
        self.logins, self.open, self.most, self.times, self.counting = 0, 0, 0, [], threading.Lock()
        super().__init__(script or Pop.ordinary, port=options.pop("port", 1110), **options)

    @staticmethod
    def ordinary(s, pause=0.0):
        server = s.server
        with server.counting:
            server.open += 1
            server.most = max(server.most, server.open)
        try:
            s.say("+OK ready")
            s.expect("CAPA")
            s.say("+OK\nUSER\n.")
            s.expect("USER bob")
            s.say("+OK")
            s.pause(pause)
            s.expect("PASS ")
            with server.counting:
                server.logins += 1
                server.times.append((time.monotonic(), s.peer[0]))
            s.say("+OK 0 messages")
            s.expect("QUIT")
            s.say("+OK")
        finally:
            with server.counting:
                server.open -= 1


@pytest.fixture
def pop():
    made = []

    def start(*arguments, **options):
        made.append(Pop(*arguments, **options))
        return made[-1]
    yield start
    for one in made:
        one.close()


# --- the real thing

@pytest.mark.parametrize("how", ["clear", "stls", "tls", "verified", "user", "apop"])
def test_dovecot(mta, peer, pki, secret, sink, how):  # noqa: F811
    """SASL in clear, with STLS, with TLS from the first byte; USER/PASS; APOP."""
    target = sink()
    mechanisms = {"user": "plain", "apop": "plain apop"}.get(how, "plain login cram-md5 scram-sha-1 scram-sha-256")
    dovecot = peer(peers.Dovecot, pki, mechanisms=mechanisms)
    port, tls = {"stls": (1110, "tls = require"), "tls": (995, "tls = require"),
                 "verified": (995, "")}.get(how, (1110, "tls = none"))
    mta.start(pop_server(target, dovecot.address, port, secret(), tls=tls, outside=f'tls-ca-file = "{pki[0]}"'))
    mta.drop(letter())
    if how == "verified":   # the certificate is for a name, and we go by an address
        mta.wait_log("status=deferred.*POP before SMTP: handshake.*failed")
        assert target.count() == 0
        return
    target.wait(1)
    login, = wait_until(lambda: dovecot.logins("pop3-login: Info: Login: "))
    wanted = {"clear": "method=SCRAM-SHA-256", "stls": "method=SCRAM-SHA-256.*TLS", "tls": "method=SCRAM-SHA-256.*TLS",
              "user": "method=PLAIN", "apop": "method=APOP"}
    assert re.search(wanted[how], login), login
    no_secret_anywhere(mta)


def test_TL19_dovecot_refuses(mta, peer, pki, secret, sink):  # noqa: F811
    """A wrong password pauses the server like one for SMTP; a right one resumes it."""
    target = sink()
    dovecot = peer(peers.Dovecot, pki)
    mta.start(pop_server(target, dovecot.address, 1110, secret("wrong-password")))
    mta.drop(letter())
    mta.wait_log("server out is paused until .*POP before SMTP: host .* said: -ERR")
    assert target.count() == 0 and mta.queue()[0]["attempts"] == 0
    secret(PASSWORD)
    target.wait(1)
    mta.wait_empty()
    no_secret_anywhere(mta, "wrong-password")


# --- when, and how often

def test_one_visit_for_all_workers(mta, pop, secret, sink):  # noqa: F811
    """Before the first connection, once, whatever comes meanwhile; and never two at once, through kills of workers."""
    target, door = sink(), pop(lambda s: Pop.ordinary(s, pause=0.3))
    mta.start("workers = 4\n" + pop_server(target, door.address, door.port, secret()))
    for i in range(200):
        mta.drop(letter(ident=str(i)))
    wait_until(lambda: door.open == 1)
    assert target.count() == 0
    target.wait(200)
    assert (door.logins, door.most) == (1, 1)
    mta.wait_log("logged in at .*POP before SMTP")


def test_a_killed_worker_is_replaced_as_visitor(mta, pop, secret, sink):  # noqa: F811
    target = sink()
    door = pop([lambda s: (s.say("+OK ready"), s.pause(60)), Pop.ordinary])
    mta.start("workers = 2\n" + pop_server(target, door.address, door.port, secret()))
    mta.drop(letter())
    wait_until(lambda: len(door.sessions) == 1)
    mta.kill("smtpout")
    target.wait(1)
    assert door.logins == 1


def test_again_when_valid_for_has_passed(mta, pop, secret, sink):  # noqa: F811
    target, door = sink(), pop()
    mta.start(pop_server(target, door.address, door.port, secret(), more='valid-for = "5s"'))
    mta.drop(letter(ident="1"))
    target.wait(1)
    mta.drop(letter(ident="2"))
    target.wait(2)
    assert door.logins == 1
    wait_until(lambda: time.monotonic() > door.times[0][0] + 5.1)
    mta.drop(letter(ident="3"))
    target.wait(3)
    assert door.logins == 2


def test_same_source_address_as_smtp(mta, pop, secret, server):  # noqa: F811
    """Several source addresses: the one that logged in is the one that sends."""
    door, sources = pop(), [free_address() for _ in range(3)]
    srv = server()
    mta.start(pop_server(srv, door.address, door.port, secret(),
                         outside="source-addresses = { %s } reconnect-every = 1" % ", ".join(f'"{a}"' for a in sources)))
    for i in range(12):
        mta.drop(letter(ident=str(i)))
    srv.wait(12)
    assert {session.peer[0] for session in srv.sessions} == {door.times[0][1]} <= set(sources)


@pytest.mark.parametrize("reply", ["550 5.7.1 <b@there.example>: Relaying denied", "530 5.7.0 Authentication required",
                                   "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
                                   "550 relay not permitted: check your mail (POP before SMTP)"])
def test_TL19_again_when_the_server_does_not_relay(mta, pop, secret, server, reply):  # noqa: F811
    """It has forgotten us sooner than we thought: POP once more, then the mail goes, and none bounces."""
    door = pop()

    def script(s):
        s.say("220 fake.example ESMTP")
        s.serve(rcpt=lambda a: reply if door.logins < 2 else None)
    srv = server(script)
    mta.start(pop_server(srv, door.address, door.port, secret()))
    for i in range(3):
        mta.drop(letter(ident=str(i)))
    srv.wait(3)
    mta.wait_empty()
    assert door.logins == 2 and not mta.grep("status=bounced")


def test_TL19_logged_in_and_still_no_relaying(mta, pop, secret, server):  # noqa: F811
    """Not for ever: then it is the server's trouble, and nothing bounces."""
    door = pop()

    def script(s):
        s.say("220 fake.example ESMTP")
        s.serve(rcpt=lambda a: "550 5.7.1 Relaying denied")
    srv = server(script)
    mta.start(pop_server(srv, door.address, door.port, secret()))
    mta.drop(letter())
    mta.wait_log("server out is paused until .*Relaying denied")
    assert door.logins == 2 and not mta.grep("status=bounced") and len(srv.sessions) < 15


# --- servers that misbehave

def endless(s):
    s.say("+OK ready")
    s.expect("CAPA")
    s.say("+OK")
    while True:
        s.send(b"X-MORE\r\n" * 1000)


def injection(s):
    s.say("+OK ready")
    s.expect("CAPA")
    s.say("+OK\nSTLS\n.")
    s.expect("STLS")
    s.say("+OK go\n+OK\n.\n+OK")
    s.line()


HOSTILE = {
    "-ERR at once": (lambda s: s.say("-ERR go away"), "tls = none", "-ERR go away"),
    "hang": (lambda s: s.pause(60), "tls = none", "does not answer in time"),
    "endless list": (endless, "tls = none", "no end"),
    "endless line": (lambda s: s.send(b"+OK " + b"x" * 100000) or s.pause(60), "tls = none", "does not speak POP3"),
    "hang up": (lambda s: s.say("+OK ready"), "tls = none", "lost connection"),
    "not POP3": (lambda s: s.say("220 fake.example ESMTP"), "tls = none", "does not speak POP3"),
    "STLS injection": (injection, "tls = require", "more than it was asked"),
    "no STLS": (lambda s: (s.say("+OK ready"), s.expect("CAPA"), s.say("+OK\nUSER\n."), s.line()), "tls = require", "does not offer TLS"),
    "garbage instead of TLS": (lambda s: (s.say("+OK ready"), s.expect("CAPA"), s.say("+OK\nSTLS\n."), s.expect("STLS"),
                                          s.say("+OK"), s.send(b"garbage" * 10), s.pause(1)), "tls = require", "POP before SMTP"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_TL19_hostile(mta, pop, secret, sink, name):  # noqa: F811
    """The mail waits or goes through the next server; no password, no mail through the closed gate, nothing bounces."""
    target, other, (script, tls, why) = sink(), sink(), HOSTILE[name]
    door = pop(script)
    mta.start(pop_server(target, door.address, door.port, secret(), tls=tls, outside='timeout = "1s"') + other.relay("second"))
    mta.drop(letter())
    other.wait(1)
    mta.wait_empty()
    assert target.count() == 0
    assert mta.grep(re.escape(why)), mta.log()
    assert not any(PASSWORD.encode() in s.received for s in door.sessions)
    no_secret_anywhere(mta)


def test_nobody_at_the_pop_server(mta, secret, sink):  # noqa: F811
    target, other = sink(), sink()
    mta.start(pop_server(target, free_address(), 1110, secret()) + other.relay("second"))
    mta.drop(letter())
    other.wait(1)
    assert target.count() == 0 and mta.grep("POP before SMTP: connect to .*Connection refused")
