"""Postern and Nodemailer's smtp-server (make check-npm, which fetches it): logins with tokens and passwords, refusals."""
import json
import re

import harness
import peers
import pytest
from fake_smtp import free_address
from fake_token import FakeToken
from harness import Daemon, listens, wait_until
from test_deliver import letter
from test_login import PASSWORD, no_secret_anywhere, pki, secret  # noqa: F401 (fixtures)


class SmtpServer(Daemon):
    def __init__(self, folder, pki, tokens):
        self.address = free_address()
        self.ledger = folder / f"npm-{self.address}.ledger"
        modules = {"NODE_PATH": str(peers.PEERS / "npm/node_modules"), "PATH": "/usr/local/bin:/usr/bin:/bin"}
        super().__init__(["node", harness.ROOT / "tests/npm/server.js", self.address, pki[2], pki[1],
                          f"{tokens.url}/t?access_token=", self.ledger], folder, "npm",
                         lambda: listens(self.address, 2587) and listens(self.address, 2465), env=modules)

    def events(self, event):
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        return [row for row in map(json.loads, lines) if row["event"] == event]

    def wait(self, count):
        wait_until(lambda: len(self.events("message")) >= count, what=f"{count} messages")
        return self.events("message")


@pytest.fixture
def tokens():
    server = FakeToken()
    yield server
    server.close()


@pytest.fixture
def npm(folder, pki, tokens):  # noqa: F811
    server = SmtpServer(folder, pki, tokens)
    yield server
    server.stop()


def relay(npm, login, port=2587, more=""):
    return (f'server "out" {{ method = relay host = "{npm.address}" port = {port} tls = require username = "bob" {login} '
            f'{more} }}\n')


@pytest.mark.parametrize("port", [2587, 2465])
def test_delivery_with_a_fetched_token(mta, npm, tokens, port):
    mta.start(relay(npm, tokens.oauth2(mta.dir), port, "tls-wrapper = true" if port == 2465 else ""))
    mta.drop(letter(b"hello\n.dot\n"))
    taken, = npm.wait(1)
    assert taken["secure"] and taken["rcpts"] == ["b@there.example"] and taken["data"].endswith("\r\n\r\nhello\r\n.dot\r\n")
    assert npm.events("auth") == [{"event": "auth", "method": "XOAUTH2", "user": "bob", "taken": True}]
    assert len(tokens.exchanges()) == 1
    no_secret_anywhere(mta, *tokens.issued)


def test_a_challenge_says_no_and_another_token_yes(mta, npm, tokens):
    mta.start(relay(npm, tokens.oauth2(mta.dir), more="reconnect-every = 1"))
    mta.drop(letter(ident="0"))
    npm.wait(1)
    tokens.revoke()
    for i in range(1, 21):
        mta.drop(letter(ident=str(i)))
    npm.wait(21)
    mta.wait_empty()
    assert len(tokens.exchanges()) == 2 and not mta.grep("status=(deferred|bounced)")
    assert len(mta.grep("is paused until .*535")) == 1
    subjects = [re.search(r"Subject: test (\d+)", row["data"])[1] for row in npm.events("message")]
    assert sorted(map(int, subjects)) == list(range(21))
    no_secret_anywhere(mta, *tokens.issued)


@pytest.mark.parametrize("mechanism", ["auto", "plain", "login", "cram-md5"])
def test_passwords(mta, npm, secret, mechanism):  # noqa: F811
    mta.start(relay(npm, f'password-file = "{secret()}" auth = {{ "{mechanism}" }}'))
    mta.drop(letter())
    npm.wait(1)
    login, = npm.events("auth")
    assert login["taken"] and login["method"] == ("CRAM-MD5" if mechanism == "auto" else mechanism.upper())
    no_secret_anywhere(mta)


def test_a_wrong_password_pauses(mta, npm, secret):  # noqa: F811
    mta.start(relay(npm, f'password-file = "{secret("wrong-password")}"'))
    mta.drop(letter())
    mta.wait_log("server out is paused until .*535")
    secret(PASSWORD)
    npm.wait(1)


def test_refused_recipients(mta, npm, tokens):
    mta.start(relay(npm, tokens.oauth2(mta.dir)))
    mta.drop(letter(envelope_to=["later@there.example", "never@there.example", "b@there.example"]))
    mta.wait_log("to=<later@there.example>.*status=deferred .*450 come back later")
    mta.wait_log("to=<never@there.example>.*status=bounced .*550 no such user")
    mta.wait_log("to=<b@there.example>.*status=sent")
    assert [row["rcpts"] for row in npm.events("message") if row["from"]] == [["b@there.example"]]


def test_postern_test(mta, npm, tokens):
    mta.configure(relay(npm, tokens.oauth2(mta.dir)))
    done = mta.postern("test", "out", "--from", "a@here.example", "--to", "b@there.example")
    assert done.returncode == 0 and "ok\ttoken\t" in done.stdout, done.stdout + done.stderr
    npm.wait(1)
