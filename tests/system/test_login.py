"""Logging in at real servers: every mechanism, refusals, what is never said in clear, and that no secret is ever logged."""
import base64
import re

import peers
import pytest
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


def server(peer, file, more="", name="out", port=None, user="bob", tls="require"):
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
    mta.start(server(dovecot, secret(), f'auth = {{ "{mechanism}" }} {"tls-wrapper = true" if port == 1465 else ""}', port=port))
    mta.drop(letter())
    target.wait(1)
    mta.wait_log("status=sent")
    login, = wait_until(dovecot.logins)
    assert f"method={mechanism.upper()}" in login and "TLS" in login
    no_secret_anywhere(mta)


def test_auto_takes_the_strongest(mta, peer, pki, secret, sink):
    target = sink()
    one, two = peer(peers.Dovecot, pki, target), peer(peers.Dovecot, pki, target, mechanisms="login plain cram-md5")
    mta.start(server(one, secret(), name="one") + server(two, secret(), name="two") + 'servers = { "one" }\n'
              if False else server(one, secret(), name="one"))
    mta.drop(letter())
    target.wait(1)
    assert "method=SCRAM-SHA-256" in wait_until(one.logins)[0]
    mta.stop()
    mta.start(server(two, secret(), name="two"))
    mta.drop(letter(ident="2"))
    target.wait(2)
    assert "method=CRAM-MD5" in wait_until(two.logins)[0]
