"""Every real peer is proved by swaks before Postern is blamed for what does not arrive there."""
import subprocess

import peers
import pytest


def swaks(peer, *options):
    done = subprocess.run(["swaks", "--server", f"{peer.address}:{peer.port}", "--from", "a@here.example", "--to", "b@there.example",
                           "--body", "proof", *options], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", [peers.Postfix, peers.Exim, peers.OpenSmtpd, peers.SmtpSink])
def test_mail_peer(peer, kind):
    one = peer(kind)
    swaks(one)
    message, = one.wait(1)
    assert b"\nproof\n" in message


def test_postfix_with_tls(peer, folder):
    one = peer(peers.Postfix, pki=peers.make_pki(folder))
    swaks(one, "--tls")
    one.wait(1)


def ask(nsd, name):
    conf = nsd.folder / "unbound-host.conf"
    conf.write_text(f'server:\n do-not-query-localhost: no\n trust-anchor-file: {nsd.anchor}\n'
                    f'forward-zone:\n name: "."\n forward-addr: {nsd.address}@{nsd.port}\n')
    return subprocess.run(["unbound-host", "-C", conf, "-v", "-t", "MX", name], capture_output=True, text=True).stdout


def test_nsd_is_signed(peer):
    nsd = peer(peers.Nsd, ["site MX 10 mx", "mx A 127.0.0.9"], plain=["@ MX 10 mx.example."])
    assert "10 mx.example. (secure)" in ask(nsd, "site.example")
    assert "10 mx.example. (insecure)" in ask(nsd, "plain.example")


def test_nsd_can_be_bogus(peer):
    nsd = peer(peers.Nsd, ["site MX 10 mx"], tamper=("10 mx.example.", "7 mx.example."))
    assert "BOGUS" in ask(nsd, "site.example")
