"""Logging in at real servers: every mechanism, refusals, what is never said in clear, and that no secret is ever logged."""
import base64
import datetime
import http.server
import json
import re
import threading
import time
import urllib.parse

import harness
import peers
import pytest
from fake_smtp import free_address
from harness import wait_until
from test_deliver import letter

PASSWORD = peers.Dovecot.PASSWORDS["bob"]
SECRETS = [p.encode() for p in peers.Dovecot.PASSWORDS.values()]


@pytest.fixture
def pki(folder):
    return peers.make_pki(folder)


@pytest.fixture
def secret(mta):
    """secret(text): a file that holds it, fit for password-file."""
    def write(text=PASSWORD, name="password"):
        path = mta.dir / name
        path.touch(mode=0o600)
        path.write_text(text + "\n")
        return path
    return write


def login_server(peer, file, more="", name="out", port=None, user="bob", tls="require"):
    return f'''server "{name}" {{ method = relay host = "{peer.address}" port = {port or peer.port} tls = {tls}
                username = "{user}" password-file = "{file}" {more} }}\n'''


def no_secret_anywhere(mta, *more):
    """Neither in the log nor in what the spool keeps: as it is, and in base64."""
    secrets = [*SECRETS, *(s.encode() for s in more)]
    secrets += [base64.b64encode(s).rstrip(b"=")[:-1] for s in secrets]
    texts = {path: path.read_bytes() for path in mta.dir.rglob("*")
             if path.is_file() and "peers" not in path.parts and not path.name.startswith(("password", "postern.conf"))}
    for path, text in texts.items():
        assert not any(s in text for s in secrets), path


# --- every way to log in

@pytest.mark.parametrize("mechanism", ["scram-sha-256", "scram-sha-1", "cram-md5", "plain", "login"])
@pytest.mark.parametrize("port", [1587, 1465])
def test_mechanism_at_dovecot(mta, peer, pki, secret, sink, mechanism, port):
    target = sink()
    dovecot = peer(peers.Dovecot, pki, target)
    mta.start(login_server(dovecot, secret(), f'auth = {{ "{mechanism}" }} {"tls-wrapper = true" if port == 1465 else ""}', port=port))
    mta.drop(letter())
    target.wait(1)
    mta.wait_log("status=sent")
    login, = wait_until(dovecot.logins)
    assert f"method={mechanism.upper()}" in login and "TLS" in login
    no_secret_anywhere(mta)


def test_auto_takes_the_strongest(mta, peer, pki, secret, sink):
    target = sink()
    one, two = peer(peers.Dovecot, pki, target), peer(peers.Dovecot, pki, target, mechanisms="login plain cram-md5")
    for count, (dovecot, mechanism) in enumerate(((one, "SCRAM-SHA-256"), (two, "CRAM-MD5")), 1):
        mta.start(login_server(dovecot, secret()))
        mta.drop(letter(ident=str(count)))
        target.wait(count)
        assert f"method={mechanism}" in wait_until(dovecot.logins)[0]
        mta.stop()


def test_user_and_password_beyond_ascii(mta, peer, pki, secret, sink):
    target = sink()
    dovecot = peer(peers.Dovecot, pki, target)
    mta.start(login_server(dovecot, secret("grün"), user="käthe"))
    mta.drop(letter())
    target.wait(1)
    no_secret_anywhere(mta)


def test_postfix_with_dovecots_sasl(mta, peer, pki, secret):
    dovecot = peer(peers.Dovecot, pki)
    postfix = peer(peers.Postfix, pki=pki, more=f"smtpd_sasl_type = dovecot | smtpd_sasl_path = unix:{dovecot.socket} | "
                   "smtpd_sasl_auth_enable = yes | smtpd_tls_auth_only = yes | smtpd_relay_restrictions = permit_sasl_authenticated, reject")
    mta.start(login_server(postfix, secret()))
    mta.drop(letter())
    postfix.wait(1)
    line, = mta.wait_log("status=sent")
    assert "sasl_method=SCRAM-SHA-256" in (postfix.folder / "log").read_text()
    no_secret_anywhere(mta)


@pytest.mark.parametrize("mechanism", ["auto", "plain"])
def test_exim(mta, peer, pki, secret, mechanism):
    exim = peer(peers.Exim, pki=pki, auth=True)
    mta.start(login_server(exim, secret(), f'auth = {{ "{mechanism}" }}'))
    mta.drop(letter())
    exim.wait(1)
    assert ("A=cram" if mechanism == "auto" else "A=plain") in (exim.folder / "log/mainlog").read_text()


def test_preset_needs_a_user_and_a_password_only(mta, peer, pki, secret, sink):
    """gmail, with nothing but a user and a password; here led to a server of ours."""
    target = sink()
    dovecot = peer(peers.Dovecot, pki, target)
    file = secret()
    mta.configure(f'server "google" {{ method = gmail username = "bob" password-file = "{file}" }}\n')
    assert mta.postern("check").returncode == 0
    mta.start(f'server "google" {{ method = gmail username = "bob" password-file = "{file}" host = "{dovecot.address}" '
              f'port = {dovecot.port} tls = require }}\n')
    mta.drop(letter())
    target.wait(1)
    limits = {(l["limit"], l["unit"]) for l in mta.status()["servers"][0]["limits"]}
    assert any(unit == "messages" for _, unit in limits) and any(unit == "recipients" for _, unit in limits), limits


def test_certificate_is_verified_by_default(mta, peer, pki, secret, sink):
    """Where a login is configured the name and the chain must be right before anything is said."""
    target = sink()
    dovecot = peer(peers.Dovecot, pki, target)
    text = login_server(dovecot, secret(), f'tls-ca-file = "{pki[0]}"').replace("tls = require", "")
    mta.start(text)
    mta.drop(letter())
    mta.wait_log("status=deferred.*Cannot start TLS")
    assert not dovecot.logins("auth: |Login") and target.count() == 0


# --- access tokens

class TokenServer(http.server.ThreadingHTTPServer):
    """Says whose a token is, as Dovecot asks it."""

    def __init__(self):
        super().__init__((free_address(), 8080), TokenServer.Answer)
        self.token = "ya29.good/token=="
        threading.Thread(target=self.serve_forever, daemon=True).start()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            right = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query).get("access_token") == [self.server.token]
            body = json.dumps({"email": "bob", "active": "true"} if right else {"error": "invalid_token"}).encode()
            self.send_response(200 if right else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass


@pytest.fixture
def tokens():
    server = TokenServer()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("mechanism", ["xoauth2", "oauthbearer"])
@pytest.mark.parametrize("is_right", [True, False], ids=["right", "wrong"])
def test_token_at_dovecot(mta, peer, pki, secret, sink, folder, tokens, mechanism, is_right):
    """A token in the password file; Dovecot asks its server whose it is, and tells in a challenge why it takes another not."""
    target = sink()
    more = folder / "oauth2"
    more.write_text(f"tokeninfo_url = http://{tokens.server_address[0]}:8080/t?access_token=\nintrospection_mode = get\n"
                    "username_attribute = email\nactive_attribute = active\nactive_value = true\n")
    dovecot = peer(peers.Dovecot, pki, target, mechanisms=mechanism,
                   more=f"passdb {{ | driver = oauth2 | mechanisms = xoauth2 oauthbearer | args = {more} | }}")
    token = tokens.token if is_right else "ya29.bad/token=="
    mta.start(login_server(dovecot, secret(token), f'auth = {{ "{mechanism}" }}'))
    mta.drop(letter())
    if is_right:
        target.wait(1)
    else:
        mta.wait_log("server out is paused until .*said: 535")
        assert target.count() == 0
    no_secret_anywhere(mta, token)


# --- what a refusal does

def test_TL15_wrong_password_is_no_bounce(mta, peer, pki, secret, sink):
    """One attempt, one alert; the mail waits without an attempt of its own; a changed file resumes at once."""
    target = sink()
    dovecot = peer(peers.Dovecot, pki, target)
    file = secret("wrong-password")
    mta.start('retry { after = { "1s" } }\n' + login_server(dovecot, file))
    for i in range(20):
        mta.drop(letter(ident=str(i)))
    alert, = mta.wait_log(r"warning: server out is paused until .*535")
    wait_until(lambda: mta.status()["servers"][0]["state"] == "paused")
    assert "535" in mta.status()["servers"][0]["reason"]
    failed = len(dovecot.logins(r"Aborted login|auth failed|Password mismatch"))
    assert target.count() == 0 and not mta.grep("status=(bounced|deferred)")
    queue = wait_until(lambda: len(q := mta.queue()) == 20 and q)
    assert all(row["attempts"] == 0 for row in queue), queue[0]
    # Still no further try when more mail comes.
    mta.drop(letter(ident="late"))
    wait_until(lambda: len(mta.queue()) == 21)
    assert len(dovecot.logins(r"Aborted login|auth failed|Password mismatch")) == failed
    assert len(mta.grep("is paused until")) == 1
    no_secret_anywhere(mta, "wrong-password")
    secret(PASSWORD)
    target.wait(21)
    mta.wait_log("logged in again")
    mta.wait_empty()
    no_secret_anywhere(mta, "wrong-password")


def test_TL15_the_next_server_takes_the_mail(mta, peer, pki, secret, sink):
    target, other = sink(), sink()
    dovecot = peer(peers.Dovecot, pki, target)
    mta.start(login_server(dovecot, secret("wrong-password")) + other.relay("second"))
    for i in range(20):
        mta.drop(letter(ident=str(i)))
    other.wait(20)
    mta.wait_empty()
    assert target.count() == 0 and len(mta.grep("is paused until")) == 1


def test_TL15_the_pause_outlasts_crashes_but_a_restart_tries(mta, peer, pki, secret, sink):
    """The scheduler killed: one probe, refused, then quiet again. Password mended while nothing ran: mail goes at start."""
    target = sink()
    dovecot = peer(peers.Dovecot, pki, target)
    mta.start(login_server(dovecot, secret("wrong-password")))
    mta.drop(letter())
    mta.wait_log("is paused until")
    mta.kill("scheduler")
    mta.wait_log("is paused until", times=2)
    mta.stop()
    secret(PASSWORD)
    mta.start()
    target.wait(1)


def test_reload_with_another_password(mta, peer, pki, sink):
    """An inline password, changed by a reload."""
    target = sink()
    dovecot = peer(peers.Dovecot, pki, target)
    text = login_server(dovecot, "FILE").replace('password-file = "FILE"', 'password = "%s"')
    mta.configure(text % "wrong-password")
    mta.conf.chmod(0o600)
    mta.start()
    mta.drop(letter())
    mta.wait_log("is paused until")
    mta.configure(text % PASSWORD)
    mta.postern("reload", check=True)
    target.wait(1)
    no_secret_anywhere(mta)


@pytest.mark.parametrize("fault", ["gone", "open", "empty", "crlf"])
def test_OP02_a_password_file_that_cannot_be_used(mta, peer, pki, secret, sink, fault):
    """At run time: that server cannot log in, mail waits, others run; mended, it goes on."""
    target, other = sink(), sink()
    dovecot = peer(peers.Dovecot, pki, target)
    file = secret()
    mta.start(login_server(dovecot, file) + other.relay("second"))
    mta.drop(letter(ident="1"))
    target.wait(1)
    if fault == "gone":
        file.rename(file.with_name("password.away"))
        file.with_name("password.touched").touch()
    elif fault == "open":
        file.chmod(0o644)
    else:
        file.write_bytes(b"" if fault == "empty" else file.read_bytes().rstrip() + b"\r\n")
    mta.wait_log("server out cannot log in")
    mta.wait_log("its password has changed")
    wait_until(lambda: (mta.drop(letter(ident=f"x{mta.dropped}")), other.count())[1] > 0)
    if fault == "gone":
        file.with_name("password.away").rename(file)
    else:
        secret()
        file.chmod(0o600)
    mta.wait_log("its password has changed", times=2)
    before = target.count()
    wait_until(lambda: (mta.drop(letter(ident=f"y{mta.dropped}")), target.count())[1] > before)


@pytest.mark.parametrize("has_second", [False, True], ids=["alone", "two"])
def test_TL15_a_server_that_cannot_judge_logins_now(mta, server, secret, has_second):
    """454: not our password's fault. No bounce, no attempt, short waits; a changed password is still tried at once."""
    replies = ["454 4.7.0 Temporary authentication failure"]

    def script(s):
        s.say("220 fake.example")
        s.ehlo(["AUTH PLAIN"])
        s.expect("AUTH PLAIN")
        if replies:
            s.say(replies[0])
            s.expect("QUIT")
        s.say("235 2.7.0 welcome")
        s.serve()

    srv, second = server(script), server()
    more = f'servers = {{ "out", "second" }}\nserver "second" {{ host = "{second.address}" port = {second.port} tls = none }}\n'
    mta.start((more if has_second else "") + login_server(srv, secret(), "auth-without-tls = true", tls="none"))
    begin = time.time()
    mta.drop(letter())
    line, = mta.wait_log("server out is paused until .*454 4.7.0")
    until = datetime.datetime.fromisoformat(re.search(r"until (\S+)Z:", line)[1] + "+00:00").timestamp()
    assert 58 < until - begin < 62 + 20 * harness.SLOW
    if has_second:
        second.wait(1)
    else:
        assert mta.queue()[0]["attempts"] == 0
        replies.clear()
        secret("another")
        srv.wait(1)
    mta.wait_empty()
    assert len(srv.sessions) == (1 if has_second else 2) and not mta.grep("status=(bounced|deferred)")


def test_TL18_our_own_relay_wants_a_login(mta, server):
    """530 to MAIL from a relay without login: nothing bounces."""
    def script(s):
        s.say("220 fake.example")
        s.serve(mail=lambda a: "530 5.7.0 Authentication required")
    srv = server(script)
    mta.start(f'server "out" {{ method = relay host = "{srv.address}" port = {srv.port} tls = none }}\n')
    mta.drop(letter())
    mta.wait_log("server out is paused until .*530 5.7.0 Authentication required")
    assert not mta.grep("status=bounced") and mta.queue()[0]["attempts"] == 0


# --- where passwords are

def memory_holds(pid, secret):
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            where, mode, *_, = line.split()
            if not mode.startswith("rw") or "[v" in line:
                continue
            start, end = (int(x, 16) for x in where.split("-"))
            memory.seek(start)
            try:
                if secret in memory.read(end - start):
                    return True
            except OSError:
                pass
    return False


@pytest.mark.skipif("__import__('os').geteuid() != 0 or harness.SANITIZED", reason="needs root and an ordinary build")
def test_passwords_reach_smtpout_only(mta, peer, pki, secret, sink):
    """Inline and by file: in no other process's memory but master's, and smtpout's."""
    target = sink()
    dovecot = peer(peers.Dovecot, pki, target)
    inline = login_server(dovecot, "F").replace('password-file = "F"', 'password = "unlikely+inline=1"')
    mta.configure(inline + login_server(dovecot, secret("unlikely+file=2"), name="two"))
    mta.conf.chmod(0o600)
    mta.start()
    for pid, name in mta.pids().items():
        for text in (b"unlikely+inline=1", b"unlikely+file=2"):
            if name == "smtpout":
                assert memory_holds(pid, text)
            elif name != "master":
                assert not memory_holds(pid, text), (name, text)
