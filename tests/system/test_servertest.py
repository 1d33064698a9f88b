"""postern test: every step shown, what to change when one fails, exit statuses; the service never runs."""
import json
import os
import pwd
import re
import socket
import subprocess
import time

import pytest

import harness
import peers
from fake_smtp import breaks_tls, free_address
from test_login import login_server, no_secret_anywhere, pki, secret  # noqa: F401 (fixtures)
from test_tls import Pki, context, record, speaks_tls, tlsa

FROM, TO = "a@here.example", "b@there.example"


@pytest.fixture
def try_it(mta):
    """try_it(configuration, *options, server=, to=): (exit status, rows); a row is {step, result, seconds, text}."""
    def run(text, *options, server="out", sender=FROM, to=TO):
        mta.configure(text)
        done = mta.postern("test", server, "--from", sender, "--to", to, "--json", *options)
        assert not done.stderr, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert rows[-1]["step"] == "end" and rows[-1]["status"] == done.returncode
        assert not mta.spool.exists(), "the service is not needed, nor its spool"
        return done.returncode, rows
    return run


def steps(rows):
    return [row["step"] for row in rows if row["result"] == "ok"]


def failure(rows):
    """(step, words, advice) of the last row that failed."""
    at = max(i for i, row in enumerate(rows) if row["result"] == "failed" and row["step"] != "end")
    assert rows[at + 1]["result"] == "advice"
    return rows[at]["step"], rows[at]["text"], rows[at + 1]["text"]


def relay(one, more="tls = none"):
    return f'server "out" {{ method = relay host = "{one.address}" port = {one.port} {more} }}\n'


# --- what works

def test_every_step_and_the_message_arrives(try_it, server):
    there = server()
    status, rows = try_it(relay(there))
    assert status == 0
    assert steps(rows) == ["DNS", "connect", "banner", "EHLO", "MAIL FROM", "RCPT TO", "DATA", "message", "QUIT", "end"]
    by = {row["step"]: row for row in rows}
    assert by["banner"]["text"] == "220 fake.example ESMTP" and by["message"]["text"] == "250 2.0.0 taken"
    assert "PIPELINING, SIZE 104857600" in by["EHLO"]["text"]
    assert all(row["seconds"] < 10 for row in rows if row["step"] not in ("end",))
    message, = there.wait(1)
    assert message.mail.startswith(f"<{FROM}>") and message.rcpts == [f"<{TO}>"]
    assert f"To: <{TO}>\r\n".encode() in message.data and b"\r\nMessage-ID: <" in message.data


def test_dry_run_ends_before_data(try_it, server):
    there = server()
    status, rows = try_it(relay(there), "--dry-run")
    assert status == 0 and "DATA" not in steps(rows)
    assert [c.split()[0] for c in there.sessions[0].commands] == ["EHLO", "MAIL", "RCPT", "QUIT"]
    assert not there.messages


def test_text_for_people(mta, server):
    there = server()
    mta.configure(relay(there))
    done = mta.postern("test", "out", "--from", FROM, "--to", TO)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert done.returncode == 0 and ["ok", "banner"] == rows[2][:2] and rows[2][3] == "220 fake.example ESMTP"
    assert rows[-1] == ["The server has taken the message."]


def test_time_is_the_servers(try_it, server):
    def slow(s):
        s.pause(0.5)
        s.say("220 late.example")
        s.serve(rcpt=lambda a: s.pause(0.3))
    status, rows = try_it(relay(server(slow)))
    took = {row["step"]: row["seconds"] for row in rows if "seconds" in row}
    assert status == 0 and took["banner"] > 0.2 and took["RCPT TO"] > 0.1 and took["MAIL FROM"] < took["banner"]


def test_direct_goes_to_the_mail_hosts(try_it, server, zone):
    there = server()
    dns = zone({"there.example MX": ["5 dead.example", "10 mx.example"], "dead.example A": [free_address()], "mx.example A": [there.address]})
    status, rows = try_it(dns + 'server "out" { method = direct port = 2525 deny-addresses = {} }\n')
    assert status == 0 and len(there.wait(1)) == 1
    found = [row["text"] for row in rows if row["step"] == "DNS"]
    assert found[0].startswith("mail of there.example: 5 dead.example has 127.") and "10 mx.example" in found[1]
    assert "DNSSEC: not signed" in found[0]
    assert [row["result"] for row in rows if row["step"] == "connect"] == ["failed", "advice", "ok"]


def test_every_address_is_tried(try_it, server, zone):
    here, gone = server(), free_address()
    dns = zone({"mx.example A": [gone, here.address]})
    status, rows = try_it(dns + 'server "out" { host = "mx.example" port = 2525 tls = none }\n')
    tried = {row["text"].split("[")[1].split("]")[0]: row["result"] for row in rows if row["step"] == "connect" and "[" in row["text"]}
    assert status == 0 and tried == {gone: "failed", here.address: "ok"}


def test_postfix_with_tls(try_it, peer, pki, zone):  # noqa: F811
    postfix = peer(peers.Postfix, pki=pki)
    dns = zone({"mx.peer.example A": [postfix.address]})
    status, rows = try_it(dns + f'server "out" {{ host = "mx.peer.example" port = {postfix.port} tls = verify tls-ca-file = "{pki[0]}" }}\n')
    assert status == 0, rows
    postfix.wait(1)
    text = {row["step"]: row["text"] for row in rows}
    assert "TLSv1.3 with cipher" in text["TLS"]
    chain, trust, expiry = [row["text"] for row in rows if row["step"] == "certificate"]
    assert "for mx.peer.example; issued by CN=test-ca" in chain
    assert "vouches" in trust and "valid until" in expiry and "SHA-256 " in expiry and ("(29 days)" in expiry or "(30 days)" in expiry)


def test_both_kinds_of_addresses(try_it, server, zone):
    """IPv6 and IPv4 are tried at the same time, each is told, and the one that answers is used."""
    here = server(address="::1", port=0)
    dns = zone({"mx.example A": [free_address()], "mx.example AAAA": ["::1"]})
    status, rows = try_it(dns + f'server "out" {{ host = "mx.example" port = {here.port} tls = none }}\n')
    said = [row["text"] for row in rows if row["step"] == "DNS"]
    tried = [row["result"] for row in rows if row["step"] == "connect" and "[::1]" in row["text"]]
    assert status == 0 and len(here.wait(1)) == 1 and tried == ["ok"]
    assert "::1" in said[0] and "127." in said[0]
    assert any("Connection refused" in row["text"] for row in rows if row["step"] == "connect")


@pytest.mark.parametrize("is_right", [True, False], ids=["right", "wrong"])
def test_dane(try_it, peer, pki, is_right):  # noqa: F811
    """Signed zones: the records are told of, and bind."""
    postfix = peer(peers.Postfix, pki=pki)
    shown = tlsa(pki[1:]) if is_right else (3, 1, 1, b"\1" * 32)
    nsd = peer(peers.Nsd, ["there MX 10 mx", f"mx A {postfix.address}", record(shown).replace("mx.peer", "mx")])
    status, rows = try_it(nsd.conf() + 'server "out" { method = direct port = 2525 deny-addresses = {} }\n')
    assert "DNSSEC: signed; TLSA records (DANE)" in next(row["text"] for row in rows if row["step"] == "DNS")
    if is_right:
        assert status == 0 and "message" in steps(rows)
    else:
        assert (status, failure(rows)[0]) == (69, "TLS") and "matches no TLSA record of _2525._tcp.mx.example" in failure(rows)[1]
        assert "its owner has to repair it" in failure(rows)[2]


def test_expired_certificate(try_it, server, zone, tmp_path):
    made = Pki(tmp_path)
    there = server(speaks_tls, tls=context(made.issue("mx.example", by=made.ca, when="60 days ago")))
    status, rows = try_it(zone({"mx.example A": [there.address]}) + f'server "out" {{ host = "mx.example" port = {there.port} '
                          f'tls = verify tls-ca-file = "{made.ca[0]}" }}\n')
    assert status == 69 and "expired on" in failure(rows)[1] and "must renew it" in failure(rows)[2]


@pytest.mark.parametrize("mechanism", ["auto", "plain", "login", "cram-md5"])
def test_login_at_dovecot(try_it, mta, peer, pki, secret, sink, mechanism):  # noqa: F811
    target = sink()
    dovecot = peer(peers.Dovecot, pki, target)
    status, rows = try_it(login_server(dovecot, secret(), f'auth = {{ "{mechanism}" }}'))
    assert status == 0, rows
    target.wait(1)
    login, = [row["text"] for row in rows if row["step"] == "login"]
    assert login.startswith({"auto": "SCRAM-SHA-256"}.get(mechanism, mechanism.upper()) + " as bob: 235 ")
    assert not any(peers.Dovecot.PASSWORDS["bob"] in row["text"] for row in rows)
    no_secret_anywhere(mta)


def test_pop_before_smtp(try_it, peer, pki, secret, sink):  # noqa: F811
    target = sink()
    dovecot = peer(peers.Dovecot, pki, target)
    section = (f'pop-before-smtp {{ host = "{dovecot.address}" port = 1110 tls = none username = "bob" password-file = "%s" }}')
    status, rows = try_it(relay(target, "tls = none " + section % secret()))
    assert status == 0, rows
    assert any(row["step"] == "POP" and "as bob" in row["text"] for row in rows)
    status, rows = try_it(relay(target, "tls = none " + section % secret("wrong", "password2")))
    step, words, advice = failure(rows)
    assert (status, step) == (77, "POP") and "pop-before-smtp" in advice


def test_as_any_user_who_may_read(mta, server, secret):  # noqa: F811
    """Not root: and a secret that this user must not read is a refusal of its own kind."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    there = server()
    mta.open_to_all().configure(relay(there))
    mta.conf.chmod(0o644)
    nobody = pwd.getpwnam("nobody")
    as_nobody = lambda *a: subprocess.run([mta.bin, "-c", mta.conf, "test", "out", "--from", FROM, "--to", TO, *a], env=mta.environment(),
                                          capture_output=True, text=True, user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], timeout=60)
    done = as_nobody()
    assert done.returncode == 0, done.stdout + done.stderr
    mta.configure(relay(there, f'tls = require username = "bob" password-file = "{secret()}"'))
    mta.conf.chmod(0o644)
    done = as_nobody()
    assert done.returncode == 77 and "Permission denied" in done.stdout and "as the owner" in done.stdout


# --- what fails: (status, step, in the words, in the advice)

def refuses(**replies):
    def script(s):
        s.say("220 hi")
        s.serve(**{step: (lambda *_, text=text: text) for step, text in replies.items()})
    return script


def says(banner):
    return lambda s: (s.say(banner), s.pause(5))


@pytest.mark.parametrize("script, expected", [
    (refuses(rcpt="550 5.1.1 no such user"), (65, "RCPT TO", "550 5.1.1 no such user", "no such recipient")),
    (refuses(rcpt="554 5.7.1 Relay access denied"), (65, "RCPT TO", "Relay access denied", "give username")),
    (refuses(rcpt="451 4.7.1 Greylisted"), (75, "RCPT TO", "451 4.7.1", "pass by itself")),
    (refuses(mail="451 4.3.0 later"), (75, "MAIL FROM", "451 4.3.0 later", "try again later")),
    (refuses(mail="550 5.7.1 not you"), (65, "MAIL FROM", "not you", "--from")),
    (refuses(mail="530 5.7.0 log in first"), (77, "MAIL FROM", "530 5.7.0", "username and password-file")),
    (refuses(data="452 4.3.1 full"), (75, "DATA", "452 4.3.1 full", "try again later")),
    (refuses(dot="554 5.6.0 spam"), (65, "message", "554 5.6.0 spam", "does not like the message")),
    (says("554 you are on a blocklist"), (69, "banner", "blocklist", "blocklist")),
    (says("421 too busy"), (75, "banner", "421 too busy", "try again later")),
    (says("SSH-2.0-OpenSSH_9"), (69, "banner", "does not speak SMTP", "no SMTP server")),
    (lambda s: s.close(), (69, "banner", "lost connection", "hangs up")),
])
def test_refusals(try_it, server, script, expected):
    status, rows = try_it(relay(server(script)))
    step, words, advice = failure(rows)
    assert (status, step) == expected[:2], rows
    assert expected[2] in words and expected[3] in advice


def test_lost_behind_the_dot(try_it, server):
    def script(s):
        s.say("220 hi")
        s.serve(dot=lambda m: s.close())
    status, rows = try_it(relay(server(script)))
    step, _, advice = failure(rows)
    assert (status, step) == (75, "message") and "look whether the message has arrived" in advice


def test_closed_port(try_it):
    status, rows = try_it(f'server "out" {{ host = "{free_address()}" port = 2525 }}\n')
    assert (status, *failure(rows)[:1]) == (69, "connect")
    assert "Connection refused" in failure(rows)[1] and "nothing listens on port 2525" in failure(rows)[2]


def test_silent_port(try_it, server):
    begun = time.monotonic()
    status, rows = try_it(relay(server(lambda s: s.pause(60)), 'tls = none timeout = "1s"'))
    assert (status, failure(rows)[0]) == (69, "banner") and "timed out" in failure(rows)[1]
    assert "says nothing" in failure(rows)[2] and time.monotonic() - begun < 20


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the port is below 1024")
def test_port_25_that_never_answers(try_it):
    """A full backlog drops what comes: as a firewall does that blocks port 25."""
    address, held = free_address(), []
    with socket.create_server((address, 25), backlog=0):
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((address, 25))
            held.append(one)
        status, rows = try_it(f'server "out" {{ method = direct deny-addresses = {{}} connect-timeout = "1s" }}\n', to=f"b@[{address}]")
        for one in held:
            one.close()
    step, words, advice = failure(rows)
    assert (status, step) == (69, "connect") and "timed out" in words
    assert advice.startswith("port 25 is blocked here: use your provider's server, port 587")


def test_unknown_host(try_it, zone):
    status, rows = try_it(zone({"other.example A": ["127.0.0.9"]}) + 'server "out" { host = "smtp.isp.example" }\n')
    assert (status, failure(rows)[0]) == (69, "DNS") and "correct option host" in failure(rows)[2]
    status, rows = try_it(zone({}) + 'server "out" { method = direct }\n', to="b@nowhere.example")
    assert (status, failure(rows)[0]) == (65, "DNS") and "correct the recipient" in failure(rows)[2]
    status, rows = try_it(zone({"there.example": "servfail"}) + 'server "out" { method = direct }\n')
    assert (status, failure(rows)[0]) == (75, "DNS")


def test_wrong_certificate(try_it, peer, pki, zone):  # noqa: F811
    postfix = peer(peers.Postfix, pki=pki)
    dns = zone({"smtp.isp.example A": [postfix.address], "mx.peer.example A": [postfix.address]})
    server = lambda host, more: dns + f'server "out" {{ host = "{host}" port = {postfix.port} tls = verify {more} }}\n'
    status, rows = try_it(server("smtp.isp.example", f'tls-ca-file = "{pki[0]}"'))
    step, words, advice = failure(rows)
    assert (status, step) == (69, "TLS") and "expected smtp.isp.example" in words
    assert "the certificate is for mx.peer.example: set host to that name" in advice
    status, rows = try_it(server("mx.peer.example", ""))
    assert status == 69 and "not signed by a known authority" in failure(rows)[1] and "tls-ca-file" in failure(rows)[2]
    # Where nothing has to be proved, it is said what verify would find.
    status, rows = try_it(server("smtp.isp.example", f'tls-ca-file = "{pki[0]}"').replace("verify", "require"))
    assert status == 0 and any("tls = verify would refuse it" in row["text"] for row in rows if row["step"] == "certificate")


@pytest.mark.parametrize("server_level", ["none", "opportunistic"])
@pytest.mark.parametrize("block, expected", [
    ('destination "there.example" { tls = verify }', "is for mx.peer.example; expected mx.there.example"),
    ('destination "group" { mx = { "*.there.example" } tls = require }', None),
    ('destination "other.example" { tls = verify }', None),
    ('destination "there.example" { tls = dane }', "TLS with DANE is required"),
])
def test_a_destinations_own_level(try_it, peer, pki, zone, server_level, block, expected):  # noqa: F811
    """As mail would go: the domain's own block counts, or that of its mail hosts."""
    postfix = peer(peers.Postfix, pki=pki)
    dns = zone({"there.example MX": ["10 mx.there.example"], "mx.there.example A": [postfix.address]})
    status, rows = try_it(dns + f'server "out" {{ method = direct port = 2525 deny-addresses = {{}} tls = {server_level} '
                                f'tls-ca-file = "{pki[0]}" }}\n{block}\n')
    said = [row["text"] for row in rows if row["step"] == "settings"]
    is_about = "other" not in block
    assert said == ([f'destination "{block.split(chr(34))[1]}" is about there.example: {re.search("tls = [a-z]+", block)[0]}'] if is_about else [])
    if expected:
        assert (status, failure(rows)[0]) == (69, "TLS") and expected in failure(rows)[1]
    else:
        assert status == 0 and ("TLS" in steps(rows)) == (is_about or server_level != "none")


def test_no_tls_offered(try_it, server):
    status, rows = try_it(relay(server(), "tls = require"))
    assert status == 69 and "was not offered" in failure(rows)[1] and "offers no TLS" in failure(rows)[2]


def test_opportunistic_goes_on_in_clear(try_it, server):
    there = server([breaks_tls, lambda s: (s.say("220 hi"), s.serve())])
    status, rows = try_it(relay(there, "tls = opportunistic"))
    assert status == 0 and len(there.wait(1)) == 1
    assert any(row["result"] == "advice" and "in clear" in row["text"] for row in rows)


def test_wrong_password(try_it, mta, peer, pki, secret):  # noqa: F811
    dovecot = peer(peers.Dovecot, pki)
    status, rows = try_it(login_server(dovecot, secret("wrong-password")))
    step, words, advice = failure(rows)
    assert (status, step) == (77, "login") and words.startswith("SCRAM-SHA-256 as bob: 535") and "password-file" in advice
    no_secret_anywhere(mta, "wrong-password")


def test_a_server_that_repeats_the_password(try_it, server, secret):  # noqa: F811
    def tells(s):
        s.say("220 hi")
        s.ehlo(["AUTH LOGIN PLAIN"])
        s.say("535 5.7.8 no: " + s.expect("AUTH PLAIN ").split()[2] + " s3cret-s3cret")
        s.line()
    status, rows = try_it(relay(server(tells), f'tls = none auth-without-tls = true username = "bob" password-file = "{secret("s3cret-s3cret")}"'))
    assert status == 77 and "s3cret" not in json.dumps(rows) and "AGJvYgBzM2NyZXQt" not in json.dumps(rows)


def test_each_mechanism_that_would_be_tried(try_it, server, secret):  # noqa: F811
    def picky(s):
        s.say("220 hi")
        s.ehlo(["AUTH CRAM-MD5 PLAIN"])
        s.expect("AUTH CRAM-MD5")
        s.say("504 5.5.4 not that one")
        s.expect("AUTH PLAIN ")
        s.say("235 2.7.0 welcome")
        s.serve()
    status, rows = try_it(relay(server(picky), f'tls = none auth-without-tls = true username = "bob" password-file = "{secret()}"'))
    assert [(row["result"], row["text"].split(" as ")[0]) for row in rows if row["step"] == "login"] == [("failed", "CRAM-MD5"), ("ok", "PLAIN")]
    assert status == 0


# --- what was asked wrongly

@pytest.mark.parametrize("arguments, says_it", [
    (["nosuch", "--from", FROM, "--to", TO], "there is no server nosuch"),
    (["out", "--from", FROM], "--to ADDRESS"),
    (["--from", FROM, "--to", TO], "SERVER"),
    (["out", "--from", FROM, "--to", "nobody"], "--to nobody"),
    (["out", "--from", FROM, "--to", TO, "--fast"], "--fast"),
])
def test_usage(mta, arguments, says_it):
    mta.configure('server "out" { host = "127.0.0.1" }\n')
    done = mta.postern("test", *arguments)
    assert done.returncode == 64 and says_it in done.stderr and not done.stdout


def test_configuration(mta, try_it):
    mta.configure('server "out" { host = "127.0.0.1" prot = 25 }\n')
    done = mta.postern("test", "out", "--from", FROM, "--to", TO)
    assert done.returncode == 78 and "prot" in done.stderr
    status, rows = try_it(f'server "out" {{ host = "127.0.0.1" username = "u" password-file = "{mta.dir}/none" }}\n')
    assert status == 78 and "No such file" in rows[0]["text"]


def test_needs_no_library_of_its_own(mta):
    """Other commands load neither OpenSSL nor libunbound."""
    linked = subprocess.run(["ldd", mta.bin], capture_output=True, text=True).stdout
    if harness.SANITIZED:
        pytest.skip("the sanitizers link what they like")
    assert "libssl" not in linked and "libunbound" not in linked and "libgsasl" not in linked
