"""Which server carries a message: each way a primary can fail, and what must come of it."""
import contextlib
import re
import socket
import ssl
import subprocess
import time

import fake_dns
import pytest
from fake_smtp import free_address, ordinary
from harness import dns_section, wait_until
from test_deliver import RETRY, letter

PLAIN = ["PIPELINING", "SIZE 104857600", "8BITMIME"]        # no ENHANCEDSTATUSCODES
BODY = b"a line of sixty-four bytes, so that many of them are a long text\n"


def relay(name, server, more=""):
    tls = "" if "tls =" in more else "tls = none"
    return f'server "{name}" {{ method = relay host = "{server.address}" port = {server.port} {tls} {more} }}\n'


# --- scripts: how one connection fails

def greets(banner):
    def script(s):
        s.say(banner)
        s.serve()
    return script


def refuses_ehlo(reply):
    def script(s):
        s.say("220 fake.example ESMTP")
        while True:
            s.say("221 bye" if s.line().upper().startswith("QUIT") else reply)
    return script


def is_victim(address):
    return "b@there.example" in address      # reports to the sender pass


def answers(extensions=None, **replies):
    """mail="451 ..." rcpt= data= dot=: that reply to the test's message; reports go through."""
    def script(s):
        ours = [False]

        def mail(address):
            ours[0] = address.startswith("<a@")
            return replies.get("mail") if ours[0] else None

        s.say("220 fake.example ESMTP")
        s.serve(extensions, mail=mail, rcpt=lambda a: replies.get("rcpt") if is_victim(a) else None,
                data=lambda: replies.get("data") if ours[0] else None, dot=lambda m: replies.get("dot") if ours[0] else None)
    return script


def hangs_up_at(verb):
    def script(s):
        s.say("220 fake.example ESMTP")
        while True:
            line = s.line().upper()
            if line.startswith(verb):
                s.close()
            s.say("250 fake.example" if not line.startswith("DATA") else "354 go")
    return script


def is_silent_at(verb):
    def script(s):
        if verb:
            s.say("220 fake.example ESMTP")
        while not verb or not s.line().upper().startswith(verb):
            s.say("250 fake.example") if verb else s.pause(60)
        s.pause(60)
    return script


def resets_in_body(s):
    s.say("220 fake.example ESMTP")
    while not s.line().upper().startswith("DATA"):
        s.say("250 fake.example")
    s.say("354 go")
    s.read()
    s.reset()


def after_the_dot(what, silence=1):
    """Takes the message whole, then goes wrong; the next connection is good."""
    def script(s):
        s.say("220 fake.example ESMTP")
        while not s.line().upper().startswith("DATA"):
            s.say("250 fake.example")
        s.say("354 go")
        s.data()
        if what:
            s.say(what)
        if what or silence > 1:
            s.pause(silence)
        s.close()
    return [script, ordinary]


def reads_nothing(s):
    s.say("220 fake.example ESMTP")
    while not s.line().upper().startswith("DATA"):
        s.say("250 fake.example")
    s.say("354 go")
    s.pause(60)


def no_starttls(s):
    s.say("220 fake.example ESMTP")
    s.serve(PLAIN)


def broken_starttls(s):
    s.until_starttls()
    s.read()
    s.send(b"\x15\x03\x03\x00\x02\x02\x28")     # alert: handshake failure
    s.close()


def good_starttls(s):
    s.say("220 fake.example ESMTP")
    s.serve(["STARTTLS", "SIZE 104857600"])


def refuses_starttls(s):
    s.until_starttls(reply="454 4.7.0 TLS not available")
    s.expect("QUIT")


def asks_for_a_login(*replies, mechanisms="PLAIN"):
    def script(s):
        s.say("220 fake.example ESMTP")
        s.ehlo([f"AUTH {mechanisms}"] if mechanisms else [])
        for reply in replies:
            s.expect("AUTH")
            s.say(reply) if reply else s.close()
        s.serve()
    return script


class Nowhere:
    """A primary that no script ever answers for. enter(stack, folder) returns host, port and what the configuration needs."""

    def __init__(self, enter):
        self.enter = enter


def dns_says(answer):
    def enter(stack, folder):
        dns = fake_dns.FakeDns({"smtp.there.example": answer})
        stack.callback(dns.stop)
        return "smtp.there.example", 25, dns_section(dns, folder)
    return Nowhere(enter)


def is_deaf(stack, _):
    """A full backlog: SYNs are dropped."""
    listener, *crowd = [stack.enter_context(socket.socket()) for _ in range(5)]
    listener.bind((free_address(), 2525))
    listener.listen(0)
    for one in crowd:
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
    return *listener.getsockname(), ""


SECOND, BOUNCE, LATER = "second", "bounce", "later"
SOON = 'timeout = "1s"'
LOGIN = 'username = "bob" password = "secret" auth-without-tls = true tls = none'

ROWS = {
    "DNS gives no answer": (dns_says("servfail"), SECOND),
    "DNS knows no such host, a typing mistake": (dns_says("nxdomain"), SECOND),
    "connection refused": (Nowhere(lambda stack, folder: (free_address(), 2525, "")), SECOND),
    "connection times out": (Nowhere(is_deaf), SECOND, 'connect-timeout = "1s"'),
    "banner lost": (lambda s: s.close(), SECOND),
    "banner 421": (greets("421 4.3.2 not now"), SECOND),
    "banner 554": (greets("554 5.7.1 no SMTP service here"), SECOND),
    "banner is nonsense": (greets("hello there"), SECOND),
    "banner silent": (is_silent_at(""), SECOND, SOON),
    "EHLO and HELO refused": (refuses_ehlo("550 5.7.1 go away"), SECOND),
    "EHLO lost": (hangs_up_at("EHLO"), SECOND),
    "EHLO 421": (refuses_ehlo("421 4.3.2 closing"), SECOND),
    "TLS required, not offered": (no_starttls, SECOND, "tls = require"),
    "TLS required, STARTTLS refused": (refuses_starttls, SECOND, "tls = require"),
    "TLS required, handshake fails": (broken_starttls, SECOND, "tls = require"),
    "TLS verified, unknown issuer": (good_starttls, SECOND, "tls = verify"),
    "login 535": (asks_for_a_login("535 5.7.8 bad credentials"), SECOND, LOGIN),
    "login 454": (asks_for_a_login("454 4.7.0 not now"), SECOND, LOGIN),
    "login 421": (asks_for_a_login("421 4.7.0 closing"), SECOND, LOGIN),
    "login not offered": (asks_for_a_login(mechanisms=""), SECOND, LOGIN),
    "login by unknown mechanisms only": (asks_for_a_login(mechanisms="GSSAPI"), SECOND, LOGIN),
    "login lost": (asks_for_a_login(""), SECOND, LOGIN),
    "MAIL 451": (answers(mail="451 4.3.0 later"), SECOND),
    "MAIL 421": (answers(mail="421 4.3.0 closing"), SECOND),
    "MAIL 550 policy": (answers(mail="550 5.7.1 your address is listed"), SECOND),
    "MAIL lost": (hangs_up_at("MAIL"), SECOND),
    "MAIL silent": (is_silent_at("MAIL"), SECOND, SOON),
    "MAIL nonsense": (answers(mail="what?"), SECOND),
    "RCPT 450": (answers(rcpt="450 4.2.0 mailbox busy"), SECOND),
    "RCPT 550 policy": (answers(rcpt="550 5.7.1 relaying denied"), SECOND),
    "RCPT 550 no such user": (answers(rcpt="550 5.1.1 no such user"), BOUNCE),
    "RCPT 550 mailbox full for good": (answers(rcpt="552 5.2.2 mailbox full"), BOUNCE),
    "RCPT 550 bare": (answers(PLAIN, rcpt="550 no such user"), BOUNCE),
    "RCPT 554 bare": (answers(PLAIN, rcpt="554 refused"), SECOND),
    "RCPT 421": (answers(rcpt="421 4.3.0 closing"), SECOND),
    "RCPT silent": (is_silent_at("RCPT"), SECOND, SOON),
    "RCPT lost": (hangs_up_at("RCPT"), SECOND),
    "DATA 451": (answers(data="451 4.3.0 later"), SECOND),
    "DATA 554": (answers(data="554 5.7.1 refused"), SECOND),
    "DATA 421": (answers(data="421 4.3.0 closing"), SECOND),
    "DATA silent": (is_silent_at("DATA"), SECOND, SOON),
    "DATA lost": (hangs_up_at("DATA"), SECOND),
    "body reset": (resets_in_body, SECOND),
    "body not read": (reads_nothing, SECOND, SOON),
    "dot 421": (answers(dot="421 4.3.0 closing"), SECOND),
    "dot 451": (answers(dot="451 4.3.0 later"), SECOND),
    "dot 550 policy": (answers(dot="550 5.7.1 looks like spam"), SECOND),
    "dot 552 too large": (answers(dot="552 5.3.4 too large"), BOUNCE),
    "dot 554 content": (answers(dot="554 5.6.0 bad content"), BOUNCE),
    "dot lost": (after_the_dot(""), LATER),
    "dot silent": (after_the_dot("", 60), LATER, SOON),
    "dot 354": (after_the_dot("354 go on"), LATER),
    "dot nonsense": (after_the_dot("thanks a lot"), LATER),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=[name.replace(" ", "-").replace(",", "") for name in ROWS])
def test_a_primary_that_fails(mta, server, folder, row):
    """In the same attempt the next server has it; unless the primary may have it, for then it is never tried elsewhere at once."""
    script, outcome, *more = row
    more = more[0] if more else ""
    second = server()
    with contextlib.ExitStack() as stack:
        if isinstance(script, Nowhere):
            first = None
            host, port, text = script.enter(stack, folder)
            text += f'server "first" {{ method = relay host = "{host}" port = {port} tls = none {more} }}\n'
        else:
            first = server(script)
            first.tls = certificate(folder) if script is good_starttls else None
            text = relay("first", first, more)
        # Only where the first attempt alone would not decide it is there a second one soon.
        mta.configure((RETRY if outcome == LATER else "") + text + relay("second", second))
        mta.conf.chmod(0o600)                   # a password stands in some
        mta.start()
        mta.drop(letter(BODY * 200000 if script in (resets_in_body, reads_nothing) else b"hello\n"))
        judge(mta, first, second, outcome)
        mta.wait_empty()


def judge(mta, first, second, outcome):
    if outcome == SECOND:
        message, = second.wait(1)
        assert message.mail.startswith("<a@here.example>") and not (first and first.messages)
        mta.wait_log(r"status=sent .*server=second attempt=1\b")
        mta.wait_log("server first( failed: .*the next server is tried|, the next one is tried| is paused until"
                     "|: smtp.there.example does not take mail now)", times=1)
    elif outcome == BOUNCE:
        wait_until(lambda: first.messages + second.messages, what="a report")
        report, = first.messages + second.messages
        assert report.mail.startswith("<>") and report.rcpts[0].startswith("<a@here.example>"), report
        mta.wait_log(r"to=<b@there.example>.*status=bounced .*server=first")
    else:
        message, = first.wait(1)                # the next attempt, from the primary on
        assert message.mail.startswith("<a@here.example>") and not second.messages
        assert mta.grep("possibly repeated") and mta.grep(r"status=deferred .*server=first attempt=1\b.* dup=possible$")
        assert not mta.grep("the next (server|one) is tried")


def certificate(folder):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key",
                    "-out", "pem", "-days", "2", "-subj", "/CN=fake.example"], cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pem", folder / "key")
    return context


def test_no_server_at_all_defers(mta):
    mta.start(f'server "only" {{ method = relay host = "{free_address()}" port = 2525 tls = none }}\n')
    mta.drop(letter())
    mta.wait_log("status=deferred")
    message, = mta.queue()
    assert message["queue_name"] == "deferred" and message["attempts"] == 1 and message["server"] == "only"
    assert "refused" in message["recipients"][0]["delay_reason"] and message["next_attempt"]


class Switch:
    """A server that can be broken and mended."""

    def __init__(self, how):
        self.how, self.is_broken = how, True

    def __call__(self, s):
        (self.how if self.is_broken else ordinary)(s)


@pytest.mark.parametrize("how", [greets("421 4.3.2 not now"), hangs_up_at("MAIL"), answers(mail="421 4.3.2 closing")],
                         ids=["banner", "lost", "421"])
def test_a_dead_primary_costs_a_probe_not_one_per_message(mta, server, how):
    """RE14: no attempt of every message is burned."""
    first, second = server(how), server()
    mta.start(relay("first", first) + relay("second", second))
    for i in range(4):                          # what it takes to know: one by one, as mail comes
        mta.drop(letter(ident=f"early{i}"))
        second.wait(i + 1)
    wait_until(lambda: mta.grep("server first: .* does not take mail now"), what="the alert")
    known = len(first.sessions)
    assert known <= 4
    for i in range(30):
        mta.drop(letter(ident=f"late{i}"))
    second.wait(34)
    mta.wait_empty()
    assert len(first.sessions) <= known + 1
    assert len(mta.grep("server first: .* does not take mail now")) == 1


def test_return_to_the_primary(mta, server):
    switch = Switch(greets("421 4.3.2 not now"))
    first, second = server(switch), server()
    mta.start(RETRY + relay("first", first) + relay("second", second))
    mta.drop(letter(ident="early"))
    second.wait(1)
    time.sleep(1.1)                             # the back-off: the next one is a probe that fails
    mta.drop(letter(ident="probe"))
    second.wait(2)
    assert len(first.sessions) == 2 and mta.status()["servers"][0]["state"] == "paused"
    switch.is_broken = False

    def comes_back():
        mta.drop(letter(ident=f"try{mta.dropped}"))
        return first.messages

    wait_until(comes_back, what="mail at the primary again")
    mta.wait_log("server first: .* answers again")
    before = mta.wait_empty() or len(second.messages)
    for i in range(10):
        mta.drop(letter(ident=f"late{i}"))
    mta.wait_empty()
    assert len(second.messages) == before and mta.status()["servers"][0]["state"] == "up"
    assert len(mta.grep("does not take mail now")) == len(mta.grep("answers again")) == 1, "one line per change of state"


@pytest.mark.parametrize("how", [greets("421 4.3.2 not now"), lambda s: s.close()], ids=["421", "HS41-closes-at-once"])
def test_mail_waits_for_a_dead_only_server(mta, server, how):
    """One probe after each back-off, and all that waits goes when it answers; nobody is asked more than once an attempt."""
    switch = Switch(how)
    first = server(switch)
    mta.start('retry { after = { "2s" } }\n' + relay("first", first))
    mta.drop(letter(ident="first"))
    mta.wait_log("status=deferred")
    for i in range(50):
        mta.drop(letter(ident=f"late{i}"))
    mta.wait_log("status=deferred .*temporarily suspended", times=50)
    assert len(first.sessions) <= 2
    wait_until(lambda: len(first.sessions) >= 3, what="a second probe")
    assert len(first.sessions) <= 4
    switch.is_broken = False
    first.wait(51)
    mta.wait_empty()
    assert len(first.messages) == 51
    assert max(int(re.search(r"attempt=(\d+)", line)[1]) for line in mta.grep("status=sent")) <= 4


def test_one_connection_too_many_is_no_failure(mta, server):
    """A server that takes two connections at a time and refuses more: the site is not down, all mail goes through the two."""
    open_now, seen = [0], [0]

    def two_at_a_time(s):
        if open_now[0] >= 2:
            seen[0] += 1
            s.say("421 4.7.0 too many connections from you")
            s.close()
        open_now[0] += 1
        try:
            s.say("220 fake.example ESMTP")
            s.serve(dot=lambda m: s.pause(0.05))
        finally:
            open_now[0] -= 1

    first, second = server(two_at_a_time), server()
    mta.start(relay("first", first) + relay("second", second))
    mta.drop(letter(ident="early"))
    first.wait(1)
    for i in range(60):
        mta.drop(letter(ident=f"m{i}"))
    first.wait(61)
    mta.wait_empty()
    assert not second.messages and not mta.grep("does not take mail now")
    assert seen[0] <= 15, "of 60 messages, however slowly they go"


def test_operator_retry_of_much_mail_costs_one_connection(mta, server):
    first = server(greets("421 4.3.2 not now"))
    mta.start(relay("first", first))
    for i in range(30):
        mta.drop(letter(ident=f"m{i}"))
    mta.wait_log("status=deferred", times=30)
    before = len(first.sessions)
    mta.postern("retry", "--all", check=True)
    wait_until(lambda: len(first.sessions) > before, what="a try")
    wait_until(lambda: all(m["queue_name"] == "deferred" for m in mta.queue()) and mta.status()["queue"]["active"] == 0)
    assert len(first.sessions) <= before + 2
