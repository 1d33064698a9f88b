"""Servers, or who stands before them, that play tricks around STARTTLS and logins: cases TL01 to TL16 that test_tls.py and
test_login.py do not have. What needs no connection is in tests/unit/smtpout_engine_test.c and smtpout_login_test.c."""
import base64
import re
import ssl
import subprocess

import pytest

from fake_smtp import free_address
from harness import listens, wait_until
from test_deliver import letter
from test_login import PASSWORD, no_secret_anywhere, secret  # noqa: F401 (fixture)
from test_pop import pop, pop_server  # noqa: F401 (fixture)
from test_smtp import section, server, smtpout  # noqa: F401 (fixtures)
from test_tls import context, pki, send  # noqa: F401 (fixture)

LOGIN_SECRETS = (PASSWORD.encode(), base64.b64encode(b"\0bob\0" + PASSWORD.encode()), base64.b64encode(PASSWORD.encode()))


def offers_starttls(s, reply="220 go"):
    s.until_starttls(["PIPELINING", "STARTTLS", "AUTH CRAM-MD5 PLAIN LOGIN"], reply)


def never_speaks_tls(s):
    offers_starttls(s)
    s.pause(60)


def has_no_tls(s):
    offers_starttls(s)
    s.read()                                    # the client's hello
    s.send(b"this is no TLS record\r\n")


def verbs(session):
    return [command.split()[0] for command in session.commands]


@pytest.mark.parametrize("level", ["opportunistic", "require"])
@pytest.mark.parametrize("more, words", [("250 injected", 'sent "250 injected", which nobody asked for'), ("25", "does not speak SMTP"),
                                         ("250-mx\n250 AUTH PLAIN", 'sent "250 mx')])
def test_tl02_more_behind_the_reply_to_starttls(smtpout, server, level, more, words):
    """In the same segment: no handshake, and no second try in clear either."""
    srv = server(lambda s: (offers_starttls(s, f"220 go\n{more}"), s.line()))
    _, cause, text = send(smtpout(section(more=f"tls = {level}")), srv)
    assert cause == "protocol" and words in text
    assert len(srv.sessions) == 1 and verbs(srv.sessions[0]) == ["EHLO", "STARTTLS"]


def test_tl05_the_handshake_stalls(smtpout, server):
    srv = server(never_speaks_tls)
    verdict, cause, text = send(smtpout(section(more='tls = require timeout = "1s"')), srv)
    assert (verdict, cause) == ("unsent", "tls") and "the handshake timed out" in text and len(srv.sessions) == 1


def test_tl05_opportunistic_goes_on_in_clear(smtpout, server):
    srv = server([never_speaks_tls, lambda s: (s.say("220 hi"), s.serve())])
    assert send(smtpout(section(more='tls = opportunistic timeout = "1s"')), srv)[0] == "delivered"
    assert "STARTTLS" not in srv.sessions[1].commands


@pytest.mark.parametrize("script", [has_no_tls, lambda s: offers_starttls(s, "454 4.7.0 not now"),
                                    lambda s: (s.say("220 hi"), s.serve(extensions=["AUTH PLAIN LOGIN"]))],
                         ids=["TL06 handshake fails", "TL04 STARTTLS refused", "TL01 STARTTLS taken away"])
def test_no_password_in_clear(mta, server, secret, script):  # noqa: F811
    """Opportunistic, but a login is configured: the mail waits, and nobody hears of the password."""
    srv = server(script)
    mta.start(f'server "out" {{ host = "{srv.address}" port = {srv.port} tls = opportunistic '
              f'username = "bob" password-file = "{secret()}" }}\n')
    mta.drop(letter())
    wait_until(lambda: mta.grep("status=deferred|is paused until"))
    assert not srv.messages and not any("AUTH" in verbs(session) for session in srv.sessions)
    assert not any(words in session.received for words in LOGIN_SECRETS for session in srv.sessions)
    message, = mta.queue()
    assert message["attempts"] <= 1 and not mta.grep("status=bounced")
    no_secret_anywhere(mta)


def shake_hands(s):
    """By hand: (what decrypts and encrypts, what it has to send), nothing of the last flight sent yet."""
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = s.server.tls.wrap_bio(received, to_send, server_side=True)
    while True:
        try:
            tls.do_handshake()
            return tls, received, to_send
        except ssl.SSLWantReadError:
            s.send(to_send.read())
            s.read()
            received.write(s.buffer)
            s.buffer = b""


def speak_first(s, words, heard):
    """In the same segment as the end of the handshake; then `heard` gets what the client says."""
    tls, received, to_send = shake_hands(s)
    tls.write(words)
    s.send(to_send.read())
    while True:
        s.read()
        received.write(s.buffer)
        s.buffer = b""
        try:
            heard.append(tls.read())
        except ssl.SSLError:
            pass


def test_tl10_a_reply_that_no_command_was_sent_for(smtpout, server, pki):  # noqa: F811
    """It is not taken for the reply to the EHLO that follows."""
    heard = []

    def script(s):
        offers_starttls(s)
        speak_first(s, b"250-mx\r\n250 SIZE 1\r\n", heard)

    srv = server(script, tls=context(pki.good, ssl.TLSVersion.TLSv1_2))
    _, cause, text = send(smtpout(section(more="tls = require")), srv)
    assert cause == "protocol" and "it sends more than it was asked" in text
    assert not b"".join(heard)


def test_tl10_the_same_before_smtp(mta, pop, server, secret, pki):  # noqa: F811
    """A POP3 server that answers a CAPA which it has not heard yet: no password for it."""
    heard = []

    def script(s):
        s.say("+OK ready")
        s.expect("CAPA")
        s.say("+OK\nSTLS\n.")
        s.expect("STLS")
        s.say("+OK")
        speak_first(s, b"+OK\r\nUSER\r\n.\r\n", heard)

    door, there = pop(script), server()
    door.tls = context(pki.good, ssl.TLSVersion.TLSv1_2)
    mta.start(pop_server(there, door.address, door.port, secret(), tls="tls = require"))
    mta.drop(letter())
    mta.wait_log("POP before SMTP: .* sends more than it was asked")
    assert not b"".join(heard) and not there.sessions
    no_secret_anywhere(mta)


@pytest.mark.parametrize("is_renegotiating", [False, True])
def test_tl10_renegotiation(smtpout, pki, tmp_path, is_renegotiating):  # noqa: F811
    """openssl s_server, told to renegotiate: that ends the session, and what it says then is no reply."""
    address, output = free_address(), tmp_path / "s_server"
    with open(output, "wb") as out:
        peer = subprocess.Popen(["openssl", "s_server", "-accept", f"{address}:2525", "-cert", pki.good[0], "-key", pki.good[1],
                                 "-tls1_2", "-crlf"], stdin=subprocess.PIPE, stdout=out, stderr=out)
    try:
        wait_until(lambda: listens(address, 2525))
        out = smtpout(section(more="tls = require tls-wrapper = true"))
        session = out.connect([("mx.there.example", [address])])
        out.give(session, out.queue(b"Subject: x\r\n\r\nhello\r\n", ["b@there.example"]))
        out.hang_up(session)

        def say(text):
            peer.stdin.write(text.encode())
            peer.stdin.flush()

        def heard(word, count=1):
            wait_until(lambda: len(re.findall(word, output.read_text(errors="replace"), re.M)) >= count, what=word)

        say("220 hi\n")
        heard("^EHLO ")
        say("r\n" if is_renegotiating else "250 mx\n")
        if not is_renegotiating:
            heard("^MAIL FROM")
            say("550 5.7.1 no\n")
            heard("^QUIT")
            say("221 bye\n")
        seen = []
        down = out.until("SESSION_DOWN", 10, seen)
        report, = [fields for name, fields in seen if name == "REPORT"] or [out.until("REPORT")]
        assert report["verdict"] == ("unsent" if is_renegotiating else "permanent"), (report, down)
        assert down["cause"] == ("lost" if is_renegotiating else "none")
        out.acknowledge(report)
    finally:
        peer.stdin.close()
        peer.kill()
        peer.wait()


@pytest.mark.parametrize("offered, more, words", [
    ([], "", "offers no login"),
    (["AUTH"], "", "offers no login|no way to log in"),
    (["AUTH NTLM GSSAPI"], "", "no way to log in"),
    (["AUTH PLAIN LOGIN"], 'auth = { "scram-sha-256", "cram-md5" }', "no way to log in"),
])
def test_tl16_no_login_or_none_that_will_do(mta, server, secret, pki, offered, more, words):  # noqa: F811
    """Nothing is sent without a login, nor by a weaker one than allowed."""
    def after_tls(s):
        offers_starttls(s)
        s.sock = s.tls = s.server.tls.wrap_socket(s.sock, server_side=True)
        s.buffer = b""
        s.serve(extensions=offered)

    srv = server(after_tls, tls=context(pki.good))
    mta.start(f'server "out" {{ host = "{srv.address}" port = {srv.port} tls = require username = "bob" '
              f'password-file = "{secret()}" {more} }}\n')
    mta.drop(letter())
    line, = mta.wait_log("warning: server out is paused until ")
    assert re.search(words, line), line
    assert not {"AUTH", "MAIL"} & set(verbs(srv.sessions[0])) and not srv.messages
    assert mta.queue()[0]["attempts"] == 0
    no_secret_anywhere(mta)
