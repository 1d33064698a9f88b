"""OAuth2: access tokens fetched and renewed, refresh tokens exchanged, logins by device code; with Dovecot as the mail
server and a token server of ours."""
import base64
import os
import re
import signal
import subprocess
import threading
import time

import harness
import peers
import pytest
from fake_token import FakeToken
from harness import wait_until
from test_deliver import letter
from test_login import memory_holds, no_secret_anywhere, pki, secret  # noqa: F401 (fixtures)


@pytest.fixture
def tokens():
    """tokens(...): a FakeToken."""
    made = []

    def start(*arguments, **more):
        made.append(FakeToken(*arguments, **more))
        return made[-1]
    yield start
    for one in made:
        one.close()


@pytest.fixture
def dovecot(peer, pki, sink, folder):  # noqa: F811
    """dovecot(tokens, mechanisms): submission that asks `tokens` whose a token is; .target is where mail ends."""
    def start(server, mechanisms="xoauth2 oauthbearer"):
        more = folder / "oauth2"
        more.write_text(f"tokeninfo_url = http://{server.host}:8443/t?access_token=\nintrospection_mode = get\n"
                        "username_attribute = email\nactive_attribute = active\nactive_value = true\n")
        target = sink()
        found = peer(peers.Dovecot, pki, target, mechanisms=mechanisms,
                     more=f"passdb {{ | driver = oauth2 | mechanisms = xoauth2 oauthbearer | args = {more} | }} | "
                     "service anvil { | unix_listener anvil-auth-penalty { | mode = 0 | } | }")   # it slows down whom it refused
        found.target = target
        return found
    return start


def server_of(peer, oauth2, more="", name="out"):
    return (f'server "{name}" {{ method = relay host = "{peer.address}" port = {peer.port} tls = require username = "bob" '
            f'{oauth2} {more} }}\n')


@pytest.mark.parametrize("mechanism", ["auto", "xoauth2", "oauthbearer"])
def test_mail_goes_with_a_fetched_token(mta, tokens, dovecot, mechanism):
    token = tokens()
    submission = dovecot(token)
    mta.start(server_of(submission, token.oauth2(mta.dir), f'auth = {{ "{mechanism}" }}'))
    mta.drop(letter())
    submission.target.wait(1)
    login, = wait_until(submission.logins)
    assert f"method={'OAUTHBEARER' if mechanism == 'auto' else mechanism.upper()}" in login
    assert not mta.grep("is paused") and len(token.exchanges()) == 1
    form, = token.exchanges()
    assert (form["client_id"], form["client_secret"]) == token.client
    no_secret_anywhere(mta, *token.issued)


def test_https_verified_by_the_systems_authorities(mta, tokens, dovecot, pki, fake_dns):  # noqa: F811
    """The name by our own DNS, the certificate by SSL_CERT_FILE; without that nothing is said to a stranger."""
    secure, plain = tokens(pki, name="mx.peer.example"), tokens()
    secure.access = plain.access
    submission = dovecot(plain)
    dns = fake_dns(secure)
    text = dns + server_of(submission, secure.oauth2(mta.dir))
    mta.start(text)
    mta.wait_log("server out gets no access token: mx.peer.example: its certificate is not trusted")
    assert not secure.requests
    mta.stop()
    mta.env["SSL_CERT_FILE"] = str(pki[0])
    mta.start(text)
    mta.drop(letter())
    submission.target.wait(1)
    assert len(secure.exchanges()) == 1
    no_secret_anywhere(mta, *secure.issued)


@pytest.fixture
def fake_dns(folder):
    """fake_dns(server): a dns section that knows where server's name is."""
    from fake_dns import FakeDns
    made = []

    def start(server):
        made.append(FakeDns({f"{server.host} A": [server.server_address[0]]}))
        return harness.dns_section(made[-1], folder)
    yield start
    for one in made:
        one.stop()


def test_renewed_before_the_end_one_fetch_for_all_workers(mta, tokens, dovecot):
    """Tokens that live for 3 s and four workers, who go on as they are: nothing is refused, nobody fetches but one."""
    token = tokens(life=3)
    submission = dovecot(token)
    mta.start("workers = 4\n" + server_of(submission, token.oauth2(mta.dir), "reconnect-every = 1 max-connections = 8"))
    pids = set(mta.pids())
    sent = 0
    while len(token.exchanges()) < 4:
        for _ in range(8):
            sent += 1
            mta.drop(letter(ident=str(sent)))
        submission.target.wait(sent)
    times = [form["time"] for form in token.exchanges()]
    assert all(1.9 < b - a < 3 for a, b in zip(times, times[1:])), times
    assert not mta.grep("is paused|status=deferred") and set(mta.pids()) == pids
    methods = submission.logins()
    assert len(methods) == sent
    until = mta.status()["servers"][0]["token"]
    assert until["error"] is None and until["valid_until"] > time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert f"token\tout\t{until['valid_until'][:10]}" in mta.postern("status").stdout
    no_secret_anywhere(mta, *token.issued)


def test_a_refused_token_is_fetched_anew(mta, tokens, dovecot):
    """The provider calls the token back: one more fetch, and all mail goes, though many were refused at once."""
    token = tokens()
    submission = dovecot(token)
    # Dovecot 2.3.19 aborts at a second message that is pipelined behind the first: one for each connection.
    mta.start("workers = 2\n" + server_of(submission, token.oauth2(mta.dir), "max-connections = 10 reconnect-every = 1"))
    mta.drop(letter(ident="first"))
    submission.target.wait(1)
    token.revoke()
    for i in range(30):
        mta.drop(letter(ident=str(i)))
    submission.target.wait(31)
    mta.wait_empty()
    assert len(token.exchanges()) == 2 and not mta.grep("status=(bounced|deferred)")
    assert mta.status()["servers"][0]["state"] == "up"
    assert len(mta.grep("is paused until")) == 1
    no_secret_anywhere(mta, *token.issued)


def test_a_late_refusal_of_the_last_token_says_nothing(mta, tokens, server):
    """Three connections log in with a token that becomes no good meanwhile. One is refused at once, one is just taken and
    is no sign that all is well again, one is refused when the next token has ended the pause. That is no reason to pause
    the server again: the mail goes."""
    token = tokens()
    both, refused = threading.Barrier(2), threading.Event()

    def script(s):
        s.say("220 fake.example")
        s.ehlo(["AUTH XOAUTH2"])
        said = base64.b64decode(s.expect("AUTH XOAUTH2 ").split()[2]).decode()
        if s.number == 0:
            refused.wait(10)
            s.say("235 2.7.0 yes")
            s.serve()
        elif token.issued[0] in said:
            if both.wait(10) == 0:
                mta.wait_log("server out: the pause is over")
            s.say("535 5.7.8 no longer")
            refused.set()
            s.line()
        else:
            s.say("235 2.7.0 yes")
            s.serve()

    fake = server(script)
    mta.start(f'server "out" {{ method = relay host = "{fake.address}" port = {fake.port} tls = none auth-without-tls = true '
              f'username = "bob" max-connections = 3 reconnect-every = 1 {token.oauth2(mta.dir)} }}\n')
    mta.drop_many(30, lambda i: letter(ident=str(i)))
    mta.wait_log("status=sent", times=30)
    mta.wait_empty()
    assert len(mta.grep("is paused until")) == 1 and len(token.exchanges()) == 2


def test_a_token_refused_twice_is_not_chased(mta, tokens, dovecot):
    """Another token is refused as well: then it is not the token's fault, and the pause is an ordinary one."""
    token, other = tokens(), tokens()
    submission = dovecot(other)             # knows none of our tokens
    mta.start(server_of(submission, token.oauth2(mta.dir)))
    mta.drop(letter(ident="1"))
    mta.wait_log("is paused until", times=2)
    mta.drop(letter(ident="2"))
    wait_until(lambda: len(mta.queue()) == 2)
    assert mta.status()["servers"][0]["state"] == "paused"
    assert len(token.exchanges()) == 2 and len(mta.grep("is paused until")) == 2
    assert [row["attempts"] for row in mta.queue()] == [0, 0]
    no_secret_anywhere(mta, *token.issued)


def test_a_killed_worker_knows_the_token_again(mta, tokens, dovecot):
    token = tokens()
    submission = dovecot(token)
    mta.start(server_of(submission, token.oauth2(mta.dir)))
    mta.kill("smtpout")
    mta.drop(letter())
    submission.target.wait(1)
    mta.postern("reload", check=True)
    mta.drop(letter(ident="2"))
    submission.target.wait(2)
    assert len(token.exchanges()) == 1      # a reload that changes nothing fetches nothing


# --- the refresh token is exchanged

def test_the_exchanged_refresh_token_is_kept(mta, tokens, dovecot):
    token = tokens(life=2)
    token.rotates = True
    submission = dovecot(token)
    mta.start(server_of(submission, token.oauth2(mta.dir)))
    file = mta.dir / "refresh.token"
    wait_until(lambda: len(token.exchanges()) >= 3)
    wait_until(lambda: file.read_text() == token.refresh + "\n")
    stat = file.stat()
    assert stat.st_mode & 0o777 == 0o600 and stat.st_uid == os.geteuid()
    mta.drop(letter())
    submission.target.wait(1)
    assert token.wrong == 0 and not mta.grep("its refresh token has changed")
    mta.restart()
    assert token.wrong == 0 and not (mta.dir / "refresh.token.new").exists()


def run_in_background(mta):
    with open(mta.dir / "stderr", "ab") as err:
        mta.process = subprocess.Popen([str(mta.bin), "-c", str(mta.conf), "run"], stdin=subprocess.DEVNULL, stdout=err,
                                       stderr=err, start_new_session=True, env=mta.environment())


def was_struck(mta, token, before):
    """Starts it, again where it met a child of the last one that had not yet let go of the lock."""
    if mta.process is None or mta.process.poll() is not None and token.before_answer:
        run_in_background(mta)
    return token.before_answer is None and len(token.exchanges()) > before


def is_up(mta):
    if mta.process is None or mta.process.poll() is not None:
        run_in_background(mta)
    return mta.grep(rf"master\[{mta.process.pid}\]: started, version")


@pytest.mark.parametrize("round_", range(3))
def test_a_killed_master_does_not_lose_the_login(mta, tokens, round_):
    """kill -9 of everything at the moment when the token server has exchanged the token, and shortly behind."""
    token = tokens(life=3600)
    token.rotates = True
    text = server_of(peers_nowhere, token.oauth2(mta.dir))
    mta.configure(text)
    for delay in (None, 0, 0.002 * (round_ + 1), 0.005 * (round_ + 1)):
        before = len(token.exchanges())

        def strike(_):
            token.before_answer = None
            if delay is None:
                mta.kill("master")
        token.before_answer = strike
        wait_until(lambda: was_struck(mta, token, before))
        if delay:
            time.sleep(delay)
        mta.kill_all_processes()
    wait_until(lambda: is_up(mta))
    assert token.wrong == 0 and not mta.grep("invalid_grant")
    wait_until(lambda: (mta.dir / "refresh.token").read_text() == token.refresh + "\n")
    assert not (mta.dir / "refresh.token.new").exists()


class peers_nowhere:
    address, port = "127.0.0.1", 9


def test_a_refresh_token_that_cannot_be_kept(mta, tokens):
    """The file's place is taken: told once, the login goes on with what is in memory, and is kept as soon as it can be."""
    token = tokens(life=2)
    token.rotates = True
    section = token.oauth2(mta.dir)
    file, obstacle = mta.dir / "refresh.token", mta.dir / "refresh.token.new"
    old = file.read_text()
    obstacle.mkdir()
    mta.start(server_of(peers_nowhere, section))
    wait_until(lambda: len(token.exchanges()) >= 3)
    assert token.wrong == 0 and file.read_text() == old
    assert mta.grep("error: server out: the token server has sent a new refresh token, and .*refresh.token cannot take it")
    obstacle.rmdir()
    wait_until(lambda: file.read_text() == token.refresh + "\n")
    assert token.wrong == 0
    no_secret_anywhere(mta, *token.issued)


# --- when there is no token

def login_lines(done):
    assert not re.search(r"refresh/token|device-code|client\+secret", done.stdout + done.stderr)
    return done.stdout


def test_invalid_grant_and_the_login_that_cures_it(mta, tokens, dovecot, sink):
    """Mail goes to the next server, one line says what helps; `postern login` gets another refresh token, and it is used at
    once, beside it mail that only this server may carry."""
    token, second = tokens(), sink()
    submission = dovecot(token)
    section = token.oauth2(mta.dir)
    token.mode = "invalid_grant"
    route = 'route "only" { recipient = { "only@there.example" } servers = { "out" } }\n'
    mta.start(server_of(submission, section) + second.relay("second") + route)
    alert, = mta.wait_log("server out gets no access token: .*invalid_grant")
    assert "`postern login out`" in alert and "warning" in alert
    mta.drop(letter(ident="1"))
    mta.drop(letter(ident="2", to="only@there.example"))
    second.wait(1)
    wait_until(lambda: len(mta.queue()) == 1)
    shown = mta.status()["servers"][0]
    assert shown["token"]["error"].startswith("the token server says invalid_grant") and shown["token"]["valid_until"] is None
    assert shown["token"]["next_try"]
    token.mode = None
    token.device["answers"] = ["authorization_pending", "authorization_pending"]
    done = mta.postern("login", "out")
    text = login_lines(done)
    assert done.returncode == 0, done.stderr
    assert "WDJB-MJHT" in text and f"{token.url}/enter" in text and "running service takes it up" in text
    submission.target.wait(1)
    mta.wait_log("server out has got an access token again")
    mta.wait_empty()
    assert len(mta.grep("gets no access token")) == 1 and not mta.grep("status=bounced")
    file = mta.dir / "refresh.token"
    assert file.read_text() == token.refresh + "\n" and file.stat().st_mode & 0o777 == 0o600
    no_secret_anywhere(mta, *token.issued)


@pytest.mark.parametrize("mode, words", [
    ("gone", "Empty reply|connection closed|Recv failure"),
    ("garbage", "answer is no JSON object"),
    ("huge", "its answer is too large"),
    ("endless", "its answer is too large"),
    ("redirect", "HTTP status 302"),
    ("503", "temporarily_unavailable"),
    ("hang", "timed out"),
])
def test_a_token_server_in_trouble(mta, tokens, dovecot, mode, words):
    """Whatever it does the rest works, memory stays small, it is told once, and tried again by itself."""
    token = tokens()
    submission = dovecot(token)
    token.mode = mode
    section = token.oauth2(mta.dir)
    mta.start(server_of(submission, section, "connect-timeout = 1s"))
    mta.drop(letter())
    alert, = mta.wait_log("warning: server out gets no access token: .*; trying again in ")
    wait_until(lambda: mta.queue() and mta.status()["servers"][0]["state"] == "paused")
    token.mode = None
    submission.target.wait(1)
    mta.wait_log("server out has got an access token again")
    assert len(token.exchanges()) <= 5 and re.search(words, alert), alert


def helpers():
    """{pid: /proc/PID} of the programs `token` of this build."""
    found = {}
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.readlink(f"/proc/{entry}/exe") == str(harness.BUILD / "libexec/postern/token"):
                found[int(entry)] = f"/proc/{entry}"
        except OSError:
            continue
    return found


@pytest.mark.alone
@pytest.mark.skipif("__import__('os').geteuid() != 0 or harness.SANITIZED", reason="needs root and an ordinary build")
def test_who_talks_to_the_token_server(mta, tokens):
    """One program, as smtp-user, in a jail, without a secret in its arguments or environment; nobody else has libcurl."""
    import pwd
    token = tokens()
    token.mode = "hang"
    section = token.oauth2(mta.dir)
    mta.start(server_of(peers_nowhere, section, "connect-timeout = 20s"))
    wait_until(lambda: token.requests)
    (pid, proc), = helpers().items()
    status = dict(line.split(":\t", 1) for line in open(f"{proc}/status").read().splitlines())
    user = pwd.getpwnam("postern-smtp")
    assert status["Uid"].split() == [str(user.pw_uid)] * 4 and status["Gid"].split() == [str(user.pw_gid)] * 4
    assert (status["Groups"].strip(), status["NoNewPrivs"], status["Seccomp"]) == ("", "1", "2")
    assert {status[name] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd")} == {"0" * 16}
    shown = open(f"{proc}/cmdline", "rb").read() + open(f"{proc}/environ", "rb").read()
    for secret_text in (token.refresh, token.client[1]):
        assert secret_text.encode() not in shown
    for other in mta.pids():
        assert "libcurl" not in open(f"/proc/{other}/maps").read()
    mta.stop()
    os.kill(pid, signal.SIGKILL)


def test_token_by_hand():
    run = lambda *arguments: subprocess.run([harness.BUILD / "libexec/postern/token", *arguments], stdin=subprocess.DEVNULL,
                                            capture_output=True, text=True)
    by_hand, wrong, asked = run(), run("--uid=x"), run("--help")
    assert (by_hand.returncode, wrong.returncode, asked.returncode) == (64, 64, 0)
    assert all("never by hand" in text for text in (by_hand.stderr, wrong.stderr, asked.stdout))


@pytest.mark.skipif("__import__('os').geteuid() != 0 or harness.SANITIZED", reason="needs root and an ordinary build")
def test_who_knows_the_token(mta, tokens):
    """smtpout, from its start and when it is renewed, and master; the refresh token is in nobody's memory."""
    token = tokens(life=3)
    mta.start(server_of(peers_nowhere, token.oauth2(mta.dir)))
    wait_until(lambda: len(token.exchanges()) >= 2)
    mta.wait_log("has got an access token", times=2)
    for pid, name in mta.pids().items():
        if name == "smtpout":
            wait_until(lambda: memory_holds(pid, token.issued[-1].encode()))
        elif name != "master":
            assert not any(memory_holds(pid, text.encode()) for text in token.issued), name
        assert name == "master" or not memory_holds(pid, token.refresh.encode()), name
        assert name == "master" or not memory_holds(pid, token.client[1].encode()), name


def test_a_reload_takes_other_files_and_other_servers(mta, tokens, dovecot):
    """Another client's identity is another token; a server that is new gets one; what stays is not fetched again."""
    token, two = tokens(), tokens()
    (mta.dir / "two").mkdir()
    submission = dovecot(token)
    one = server_of(submission, token.oauth2(mta.dir))
    mta.start(one)
    mta.configure(one + server_of(peers_nowhere, two.oauth2(mta.dir / "two"), name="two"))
    mta.postern("reload", check=True)
    mta.wait_log("server two has got an access token")
    assert [s["token"]["error"] for s in mta.status()["servers"]] == [None, None]
    assert len(token.exchanges()) == 1
    token.client = ("another", "secret+of-another")
    mta.configure(server_of(submission, token.oauth2(mta.dir)))
    mta.postern("reload", check=True)
    wait_until(lambda: len(token.exchanges()) == 2)
    assert token.exchanges()[1]["client_id"] == "another"
    mta.drop(letter())
    submission.target.wait(1)


# --- postern login, test, check

@pytest.mark.parametrize("answers, status, words", [
    (["authorization_pending", "access_denied"], 77, "somebody has said no"),
    (["expired_token"], 75, "not entered in time"),
    (["invalid_scope"], 78, "correct scope"),
    (["slow_down"], 0, "Logged in"),
])
def test_login_by_device_code(mta, tokens, answers, status, words):
    """With the service stopped and no refresh token yet; nothing is written unless it is granted."""
    token = tokens()
    token.device["answers"] = list(answers)
    mta.configure(server_of(peers_nowhere, token.oauth2(mta.dir)))
    (mta.dir / "refresh.token").unlink()
    since = time.monotonic()
    done = mta.postern("login", "out")
    assert done.returncode == status and words in login_lines(done) + done.stderr
    assert (mta.dir / "refresh.token").exists() == (status == 0) and not (mta.dir / "refresh.token.new").exists()
    if status == 0:
        assert (mta.dir / "refresh.token").read_text() == token.refresh + "\n"
        assert time.monotonic() - since > 7     # 1 s, then five more: RFC 8628 3.5
    polls = [form for form in token.requests if "device_code" in form.get("grant_type", "")]
    assert polls[0]["device_code"] == "device-code-1" and polls[0]["client_secret"] == token.client[1]
    assert token.requests[0]["scope"] == "mail.send offline" and "client_secret" not in token.requests[0]


def test_login_that_cannot_begin(mta, tokens):
    token = tokens()
    plain = 'server "plain" { host = "127.0.0.1" }\n'
    mta.configure(server_of(peers_nowhere, token.oauth2(mta.dir, device=False)) + plain)
    assert [mta.postern("login", *names).returncode for names in ([], ["a", "b"], ["nobody"], ["plain"], ["out"])] == [64, 64, 64, 78, 78]
    mta.configure(server_of(peers_nowhere, token.oauth2(mta.dir)))
    token.mode = "gone"
    assert mta.postern("login", "out").returncode == 69
    assert mta.postern("login", "--help").returncode == 0


def test_check_looks_at_the_files(mta, tokens):
    token = tokens()
    mta.configure(server_of(peers_nowhere, token.oauth2(mta.dir)))
    assert mta.postern("check").returncode == 0
    (mta.dir / "client.secret").chmod(0o644)
    (mta.dir / "refresh.token").unlink()
    done = mta.postern("check")
    assert done.returncode == 78
    assert re.search(r"client-secret-file: .*is open to others", done.stderr)
    assert re.search(r"refresh-token-file: .*does not exist; `postern login out` makes it", done.stderr)


def test_the_interfaces_own_example(mta, folder):
    """oauth2 { token-url client-id client-secret-file refresh-token-file }, and a preset that knows the rest."""
    for name in ("secret", "refresh"):
        (mta.dir / name).touch(mode=0o600)
        (mta.dir / name).write_text("x\n")
    mta.configure('server "a" { host = "smtp.isp.example" port = 587 username = "me" oauth2 { token-url = "https://isp.example/token" '
                  'client-id = "postern" client-secret-file = "secret" refresh-token-file = "refresh" } }\n'
                  'server "b" { method = gmail username = "me@gmail.com" oauth2 { client-id = "x" refresh-token-file = "refresh" } }\n')
    done = mta.postern("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "https://oauth2.googleapis.com/token" in mta.postern("presets", "gmail").stdout


def test_postern_test_fetches_a_token(mta, tokens, dovecot):
    token = tokens()
    token.rotates = True
    submission = dovecot(token)
    mta.configure(server_of(submission, token.oauth2(mta.dir)))
    run = lambda: mta.postern("test", "out", "--from", "a@here.example", "--to", "b@there.example")
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"ok\ttoken\t\d+\.\d+ s\tan access token from .*/token, good for 1h", done.stdout)
    submission.target.wait(1)
    assert (mta.dir / "refresh.token").read_text() == token.refresh + "\n"
    token.mode = "invalid_grant"
    refused = run()
    assert refused.returncode == 77 and "`postern login` gets another" in refused.stdout
    token.mode = "503"
    away = run()
    assert away.returncode == 69 and "advice\ttoken" in away.stdout
    for shown in (done, refused, away):
        for secret_text in (token.refresh, *token.issued, token.client[1]):
            assert secret_text not in shown.stdout + shown.stderr


def test_auto_prefers_oauth2_and_falls_back_to_a_password(mta, tokens, dovecot, peer, pki, sink, secret):  # noqa: F811
    token, target = tokens(), sink()
    both = dovecot(token, mechanisms="plain scram-sha-256 xoauth2")
    old = peer(peers.Dovecot, pki, target)
    more = f'password-file = "{secret()}"'
    section = token.oauth2(mta.dir)
    for submission, arrived, method in ((both, both.target, "XOAUTH2"), (old, target, "SCRAM-SHA-256")):
        mta.start(server_of(submission, section, more))
        mta.drop(letter())
        arrived.wait(1)
        assert f"method={method}" in wait_until(submission.logins)[0]
        mta.stop()
