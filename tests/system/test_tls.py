"""TLS with real handshakes: certificates and their faults, fingerprints, client certificates, versions, DANE, resumption.
Cases TL; smtpout alone against scripted servers, then the whole of Postern against Postfix, Exim and signed zones."""
import hashlib
import re
import ssl
import subprocess

import pytest

import peers
from fake_smtp import breaks_tls, free_address
from harness import wait_until
from smtpchild import TLS_DANE, TLS_NONE, TLS_OPPORTUNISTIC, TLS_REQUIRE, TLS_VERIFY
from test_smtp import BODY, section, server, smtpout, verdicts, wrapped  # noqa: F401 (fixtures)

HOST = "mx.there.example"


# --- certificates

class Pki:
    """Makes certificates with openssl(1); a certificate is (file with it and what is sent above it, key)."""

    def __init__(self, folder):
        self.folder, self.count = folder, 0
        self.ca = self.issue("test CA", ca=True)

    def issue(self, name, names=None, by=None, ca=False, when=None, chain=(), days=30):
        """by None: signs itself. names: alternative names. when: "60 days ago". chain: certificates sent above it."""
        self.count += 1
        stem = self.folder / f"{self.count}-{name.replace(' ', '-')}"
        cert, key = stem.with_name(stem.name + ".crt"), stem.with_name(stem.name + ".key")
        # faketime names its shared memory by its process id, and one that was killed has left it behind.
        command = ["sh", "-c", 'rm -f /dev/shm/faketime_shm_$$ /dev/shm/sem.faketime_sem_$$; exec faketime "$@"', "sh", when] if when else []
        command += ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", str(days),
                    "-subj", f"/CN={name}", "-keyout", key, "-out", cert, "-addext", f"basicConstraints=critical,CA:{str(ca).upper()}"]
        if by:
            command += ["-CA", by[0], "-CAkey", by[1]]
        if not ca:
            command += ["-addext", "subjectAltName=" + ",".join(f"DNS:{n}" for n in names or [name])]
        subprocess.run(command, check=True, capture_output=True)
        with open(cert, "a") as file:
            for above in chain:
                file.write(above[0].read_text())
        return cert, key


def der(cert, key=False):
    command = ["openssl", "x509", "-in", cert[0], "-outform", "DER"]
    if key:
        pem = subprocess.run(["openssl", "x509", "-in", cert[0], "-noout", "-pubkey"], check=True, capture_output=True).stdout
        return subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=pem, check=True, capture_output=True).stdout
    return subprocess.run(command, check=True, capture_output=True).stdout


def tlsa(cert, usage=3, selector=1, matching=1):
    """A TLSA record for a certificate."""
    data = der(cert, selector == 1)
    return usage, selector, matching, {0: lambda: data, 1: lambda: hashlib.sha256(data).digest(),
                                       2: lambda: hashlib.sha512(data).digest()}[matching]()


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    made = Pki(tmp_path_factory.mktemp("pki"))
    ca = made.ca
    made.good = made.issue(HOST, by=ca)
    made.other = made.issue("a.example", ["a.example", "b.example"], by=ca)
    made.expired = made.issue(HOST, by=ca, when="60 days ago")
    made.early = made.issue(HOST, by=ca, when="+60 days")
    made.own = made.issue(HOST)
    made.stranger_ca = made.issue("some other CA", ca=True)
    made.stranger = made.issue(HOST, by=made.stranger_ca)
    made.between = made.issue("the CA between", by=ca, ca=True)
    made.chained = made.issue(HOST, by=made.between, chain=[made.between])
    made.unchained = made.issue(HOST, by=made.between)
    made.with_ca = made.issue(HOST, by=ca, chain=[ca])
    made.wrong_with_ca = made.issue("a.example", by=ca, chain=[ca])
    made.based = made.issue("real.example", by=ca, chain=[ca])
    return made


def context(cert, version=None, client_ca=None):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if version:
        if version < ssl.TLSVersion.TLSv1_2:
            made.set_ciphers("ALL:@SECLEVEL=0")
        made.minimum_version = made.maximum_version = version
    made.load_cert_chain(*cert)
    if client_ca:
        made.load_verify_locations(client_ca[0])
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def speaks_tls(s):
    def note(_):
        s.facts = s.tls and (s.tls.version(), s.tls.session_reused, s.tls.getpeercert())
    s.facts = None
    s.say("220 hi")
    s.serve(extensions=["PIPELINING", "STARTTLS"], dot=note)


def send(out, srv, *dane, host=HOST, server="out", tls=None):
    """One message; returns (verdict, cause, text). tls: the level of a destination."""
    session = out.connect([(host, [srv.address], *dane)], server=server, tls=tls)
    out.give(session, out.queue(BODY, ["b@there.example"]))
    out.hang_up(session)
    seen = []
    down = out.until("SESSION_DOWN", 10, seen)
    reports = [f for name, f in seen if name == "REPORT"] or [out.until("REPORT", 10)]
    out.acknowledge(*reports)
    return reports[0]["verdict"], down["cause"], down["text"]


SENT = ("delivered", "none", "")


# --- TL07: what is wrong with a certificate is said in words

@pytest.mark.parametrize("cert, words", [
    ("other", r"certificate of mx\.there\.example is for a\.example, b\.example; expected mx\.there\.example$"),
    ("expired", r"certificate of mx\.there\.example expired on 20\d\d-\d\d-\d\d \d\d:\d\d UTC$"),
    ("early", r"certificate of mx\.there\.example is not valid before 20\d\d-\d\d-\d\d \d\d:\d\d UTC$"),
    ("own", r"is not signed by a known authority, but by itself: CN=mx\.there\.example$"),
    ("stranger", r"is not signed by a known authority: issuer CN=some other CA \("),
    ("unchained", r"is not signed by a known authority: issuer CN=the CA between \(unknown here, or the server does not send"),
])
def test_tl07_faults(smtpout, server, pki, cert, words):
    srv = server(speaks_tls, tls=context(getattr(pki, cert)))
    out = smtpout(section(more=f'tls = verify tls-ca-file = "{pki.ca[0]}"'))
    verdict, cause, text = send(out, srv)
    assert (verdict, cause) == ("unsent", "tls") and re.search(words, text), text
    assert not srv.messages and len(srv.sessions) == 1
    assert [c.split()[0] for c in srv.sessions[0].commands] == ["EHLO", "STARTTLS"]


@pytest.mark.parametrize("cert", ["good", "chained"])
def test_good_certificates(smtpout, server, pki, cert):
    srv = server(speaks_tls, tls=context(getattr(pki, cert)))
    assert send(smtpout(section(more=f'tls = verify tls-ca-file = "{pki.ca[0]}"')), srv) == SENT


@pytest.mark.parametrize("cert", ["other", "expired", "own", "stranger"])
def test_require_takes_any(smtpout, server, pki, cert):
    srv = server(speaks_tls, tls=context(getattr(pki, cert)))
    assert send(smtpout(section(more="tls = require")), srv) == SENT and srv.sessions[0].facts


def test_tl07_the_next_host_is_tried(smtpout, server, pki):
    bad, good = server(speaks_tls, tls=context(pki.expired)), server(speaks_tls, tls=context(pki.good))
    out = smtpout(section(more=f'tls = verify tls-ca-file = "{pki.ca[0]}"'))
    outcome, _ = out.deliver(out.queue(BODY, ["b@there.example"]), [(HOST, [bad.address]), (HOST, [good.address])])
    assert verdicts(outcome) == ["delivered"] and good.messages and not bad.messages


def test_address_instead_of_a_name(smtpout, server, pki, tmp_path):
    address = free_address()
    cert = Pki(tmp_path)
    leaf = cert.issue("mx", ["mx.example"], by=cert.ca)
    subprocess.run(["openssl", "req", "-x509", "-key", leaf[1], "-subj", "/CN=mx", "-out", leaf[0], "-CA", cert.ca[0], "-CAkey",
                    cert.ca[1], "-addext", f"subjectAltName=IP:{address}"], check=True, capture_output=True)
    srv = server(speaks_tls, tls=context(leaf), address=address)
    out = smtpout(section(more=f'tls = verify tls-ca-file = "{cert.ca[0]}"'))
    assert send(out, srv, host=f"[{address}]") == SENT
    _, cause, text = send(out, srv, host="[127.0.0.9]")
    assert cause == "tls" and f"is for {address}; expected [127.0.0.9]" in text


def test_the_systems_authorities_serve_all_servers(smtpout, server, pki):
    """They are read once; all but the first server get ready when they are first used, in the jail that hides the file."""
    store = 'mount --bind "$0" /etc/ssl/certs/ca-certificates.crt; exec "$@"'
    out = smtpout("".join(section(name=f"s{i}", more="tls = verify") for i in range(3)),
                  wrapper=("unshare", "-m", "sh", "-c", store, pki.ca[0]))
    good, stranger = server(speaks_tls, tls=context(pki.good)), server(speaks_tls, tls=context(pki.stranger))
    for name in ("s0", "s1", "s2"):
        assert send(out, good, server=name) == SENT
        verdict, cause, text = send(out, stranger, server=name)
        assert (verdict, cause) == ("unsent", "tls") and "is not signed by a known authority" in text


# --- fingerprints

def fingerprint(cert, colons=False):
    text = hashlib.sha256(der(cert)).hexdigest()
    return ":".join(text[i:i + 2] for i in range(0, 64, 2)).upper() if colons else text


@pytest.mark.parametrize("level", ["tls = verify", "tls = require", ""])
@pytest.mark.parametrize("colons", [False, True])
def test_fingerprints(smtpout, server, pki, level, colons):
    """A pinned certificate needs no authority, name or date; one of several pins is enough."""
    pins = f'"{fingerprint(pki.good)}", "{fingerprint(pki.own, colons)}", "{fingerprint(pki.expired)}"'
    out = smtpout(section(more=f"{level} tls-fingerprints = {{ {pins} }}"))
    assert send(out, server(speaks_tls, tls=context(pki.own))) == SENT
    assert send(out, server(speaks_tls, tls=context(pki.expired))) == SENT
    verdict, cause, text = send(out, server(speaks_tls, tls=context(pki.stranger)))
    assert (verdict, cause) == ("unsent", "tls")
    assert f"none of the expected tls-fingerprints; offered: {fingerprint(pki.stranger)}, for mx.there.example" in text


def test_a_known_authority_does_not_replace_the_pin(smtpout, server, pki):
    out = smtpout(section(more=f'tls = verify tls-ca-file = "{pki.ca[0]}" tls-fingerprints = {{ "{fingerprint(pki.ca)}" }}'))
    assert send(out, server(speaks_tls, tls=context(pki.with_ca)))[1] == "tls"


# --- client certificates, versions

@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("is_one_file", [False, True])
def test_client_certificate(smtpout, server, pki, tmp_path, version, is_one_file):
    cert = pki.issue("client.here.example", by=pki.ca)
    both = tmp_path / "both.pem"
    both.write_text(cert[0].read_text() + cert[1].read_text())
    both.chmod(0o600)
    srv = server(speaks_tls, tls=context(pki.good, version, pki.ca))
    files = f'tls-client-cert = "{both}"' if is_one_file else f'tls-client-cert = "{cert[0]}" tls-client-key = "{cert[1]}"'
    out = smtpout(section(more=f"tls = require {files}") + section(name="bare", more="tls = require"))
    assert send(out, srv) == SENT
    assert srv.sessions[0].facts[2]["subject"] == ((("commonName", "client.here.example"),),)
    verdict, cause, text = send(out, srv, server="bare")
    assert verdict in ("unsent", "temporary") and cause in ("tls", "lost") and len(srv.messages) == 1
    # with TLS 1.3 the alert comes behind our EHLO, and the reset that follows may overtake it
    assert re.search(r"demands a certificate of ours \(tls-client-cert\)|handshake failure|reset by peer", text), text


@pytest.mark.parametrize("level", ["require", "opportunistic"])
def test_unusable_client_key(smtpout, server, pki, tmp_path, level):
    """A key with a passphrase, or one of another certificate: said in the log, and no connection goes out without it."""
    locked = tmp_path / "locked.key"
    subprocess.run(["openssl", "pkey", "-in", pki.good[1], "-aes128", "-passout", "pass:x", "-out", locked], check=True)
    srv = server(speaks_tls, tls=context(pki.good))
    out = smtpout("".join(section(name=name, more=f'tls = {level} tls-client-cert = "{pki.good[0]}" tls-client-key = "{key}"')
                          for name, key in (("locked", locked), ("wrong", pki.own[1]))))
    for name in ("locked", "wrong"):
        assert send(out, srv, server=name)[:2] == ("unsent", "tls") and not srv.sessions
        assert re.search(rf"server {name} cannot be used: tls-client-key: .*: \w", out.log())


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")    # that old versions are old is the point
@pytest.mark.parametrize("offered, wanted, is_good", [
    (ssl.TLSVersion.TLSv1, "1.0", True), (ssl.TLSVersion.TLSv1_1, "1.0", True), (ssl.TLSVersion.TLSv1_1, "1.1", True),
    (ssl.TLSVersion.TLSv1, "1.1", False), (ssl.TLSVersion.TLSv1_1, None, False), (ssl.TLSVersion.TLSv1_2, None, True),
    (ssl.TLSVersion.TLSv1_2, "1.3", False), (ssl.TLSVersion.TLSv1_3, "1.3", True)])
def test_min_version(smtpout, server, pki, offered, wanted, is_good):
    srv = server(speaks_tls, tls=context(pki.good, offered))
    more = f"tls-min-version = {wanted}" if wanted else ""
    verdict, cause, text = send(smtpout(section(more=f'tls = verify tls-ca-file = "{pki.ca[0]}" {more}')), srv)
    if is_good:
        assert verdict == "delivered", text
        assert srv.sessions[0].facts[0].replace("v1.0", "v1") == offered.name.replace("_", ".")
    else:
        assert cause == "tls" and f"does not speak TLS {wanted or '1.2'} or newer (tls-min-version)" in text, text


# --- STARTTLS that is not what it seems

def test_wrapper_where_none_is_spoken(smtpout, server):
    _, cause, text = send(smtpout(section(more="tls = require tls-wrapper = true")), server())
    assert cause == "tls" and "does not speak TLS here" in text


def test_wrapper_with_a_wrong_certificate(smtpout, server, pki):
    srv = server(wrapped, tls=context(pki.other))
    srv.scripts = [lambda s: pytest.raises((OSError, ssl.SSLError), wrapped, s)]
    _, cause, text = send(smtpout(section(more=f'tls = verify tls-wrapper = true tls-ca-file = "{pki.ca[0]}"')), srv)
    assert cause == "tls" and "is for a.example, b.example; expected mx.there.example" in text


def test_tl03_what_was_learnt_in_clear_is_forgotten(smtpout, server, pki):
    def script(s):
        s.say("220 hi")
        s.ehlo(["PIPELINING", "SIZE 5", "STARTTLS"])
        s.expect("STARTTLS")
        s.starttls()
        s.ehlo(["ENHANCEDSTATUSCODES"])
        s.expect(r"MAIL FROM:<a@here\.example>$")
        assert not s.buffer                             # no pipelining any more
        s.say("250 ok")
        s.serve()
    srv = server(script, tls=context(pki.good))
    send(smtpout(section(more="tls = require")), srv)
    assert "MAIL FROM:<a@here.example>" in srv.sessions[0].commands


@pytest.mark.parametrize("reply", ["454 4.7.0 not now", "501 5.5.4 what", "550 5.7.0 no"])
@pytest.mark.parametrize("level, dane, verdict", [("opportunistic", (), "delivered"), ("require", (), "unsent"),
                                                  ("opportunistic", ([],), "unsent"), ("opportunistic", "good", "unsent")])
def test_tl04_starttls_refused(smtpout, server, pki, reply, level, dane, verdict):
    def script(s):
        s.until_starttls(reply=reply)
        s.serve(extensions=[])
    srv = server(script)
    dane = ([tlsa(pki.good)],) if dane == "good" else dane
    got, cause, text = send(smtpout(section(more=f"tls = {level}")), srv, *dane)
    assert got == verdict and (got == "delivered" or (cause == "tls" and reply in text and not srv.messages))


@pytest.mark.parametrize("dane", [[], "good"])
def test_tl01_stripped_where_records_promise_tls(smtpout, server, pki, dane):
    srv = server()
    _, cause, text = send(smtpout(section(more="tls = opportunistic")), srv, [tlsa(pki.good)] if dane else [])
    assert cause == "tls" and "was not offered" in text and not srv.messages


def test_tl06_no_clear_text_where_records_promise_tls(smtpout, server, pki):
    out = smtpout(section(more="tls = opportunistic"))
    for records in ([tlsa(pki.good)], []):
        srv = server([breaks_tls, speaks_tls])
        assert send(out, srv, records)[:2] == ("unsent", "tls") and len(srv.sessions) == 1


def test_tl09_closed_inside_a_reply(smtpout, server, pki):
    """Without close_notify: half a reply is no reply, and behind the final dot nobody knows."""
    def script(s):
        def half(_):
            s.send("250 2.0.0 tak")
            s.close()
        s.say("220 hi")
        s.serve(extensions=["STARTTLS"], dot=half)
    verdict, cause, _ = send(smtpout(section(more="tls = require")), server(script, tls=context(pki.good)))
    assert (verdict, cause) == ("unknown", "lost")


# --- DANE

WRONG = "matches no TLSA record of _2525._tcp.{}; offered: 3 1 1 "


@pytest.mark.parametrize("cert, records, base, words", [
    ("own", [("own", 3, 1, 1)], "", None),
    ("own", [("own", 3, 0, 1)], "", None),
    ("own", [("own", 3, 1, 2)], "", None),
    ("own", [("own", 3, 1, 0)], "", None),
    ("own", [("own", 3, 0, 0)], "", None),
    ("own", [("good", 3, 1, 1)], "", WRONG.format(HOST)),
    ("own", [("good", 3, 1, 1), ("own", 3, 1, 1)], "", None),           # a key is being replaced
    ("other", [("other", 3, 1, 1)], "", None),                          # neither name
    ("expired", [("expired", 3, 1, 1)], "", None),                      # nor date counts
    ("with_ca", [("ca", 2, 0, 1)], "", None),
    ("with_ca", [("ca", 2, 1, 1)], "", None),
    ("good", [("ca", 2, 0, 1)], "", WRONG.format(HOST)),                # the authority is not sent
    ("with_ca", [("good", 2, 1, 1)], "", WRONG.format(HOST)),           # a leaf is no authority
    ("with_ca", [("own", 3, 1, 1), ("ca", 2, 1, 1)], "", None),
    ("wrong_with_ca", [("ca", 2, 0, 1)], "", "is for a.example; expected mx.there.example"),
    ("based", [("ca", 2, 0, 1)], "real.example", None),                 # the name at the end of the alias
    ("with_ca", [("ca", 2, 0, 1)], "real.example", None),               # or at its beginning
    ("wrong_with_ca", [("ca", 2, 0, 1)], "real.example", "is for a.example; expected mx.there.example"),
    ("own", [("good", 3, 1, 1)], "real.example", WRONG.format("real.example")),
])
@pytest.mark.parametrize("level", ["opportunistic", "dane"])
def test_dane(smtpout, server, pki, level, cert, records, base, words):
    srv = server(speaks_tls, tls=context(getattr(pki, cert)))
    dane = [tlsa(getattr(pki, name), *numbers) for name, *numbers in records]
    result = send(smtpout(section(more=f"tls = {level}")), srv, dane, *([base] if base else []))
    if words is None:
        assert result == SENT
    else:
        assert result[:2] == ("unsent", "tls") and words in result[2] and not srv.messages
        if words.startswith("matches"):
            assert result[2].endswith(tlsa(getattr(pki, cert))[3].hex())


def test_dane_shows_the_name_of_the_records(smtpout, server, pki):
    shown = []
    made = context(pki.own)
    made.sni_callback = lambda sock, name, ctx: shown.append(name)
    assert send(smtpout(section(more="tls = dane")), server(speaks_tls, tls=made), [tlsa(pki.own)], "real.example") == SENT
    assert shown == ["real.example"]


def test_tl12_records_of_no_use(smtpout, server, pki):
    """They promise TLS and nothing more; who demands DANE is not content with that."""
    srv = server(speaks_tls, tls=context(pki.stranger))
    out = smtpout(section(more="tls = opportunistic") + section(name="strict", more="tls = dane"))
    assert send(out, srv, []) == SENT and srv.sessions[0].facts
    verdict, cause, text = send(out, srv, [], server="strict")
    assert (verdict, cause) == ("unsent", "tls") and "none of its TLSA records can be used" in text
    assert len(srv.sessions) == 1


def test_dane_demanded_and_not_there(smtpout, server, pki):
    srv = server(speaks_tls, tls=context(pki.good))
    verdict, cause, text = send(smtpout(section(more="tls = dane")), srv)
    assert (verdict, cause) == ("unsent", "tls") and not srv.sessions
    assert "TLS with DANE is required, but host mx.there.example cannot be authenticated" in text and "not signed" in text


def test_dane_the_next_host_is_tried(smtpout, server, pki):
    first, second = (server(speaks_tls, tls=context(pki.own)) for _ in range(2))
    out = smtpout(section(more="tls = dane"))
    hosts = [("no.records.example", [first.address]), ("wrong.example", [first.address], [tlsa(pki.good)]),
             (HOST, [second.address], [tlsa(pki.own)])]
    outcome, _ = out.deliver(out.queue(BODY, ["b@there.example"]), hosts)
    assert verdicts(outcome) == ["delivered"] and second.messages and not first.messages


# --- a destination's level beside the server's

DESTINATIONS = 'destination "x.example" { tls = require } destination "y.example" { tls = verify }\n'


@pytest.mark.parametrize("server_level", ["none", "opportunistic", "require", "dane"])
def test_levels_of_destinations(smtpout, server, pki, server_level):
    """The destination's level counts, also where it asks for more, or less, than the server's."""
    own, good = server(speaks_tls, tls=context(pki.own)), server(speaks_tls, tls=context(pki.good))
    out = smtpout(DESTINATIONS + f'server "out" {{ method = direct port = 2525 deny-addresses = {{ }} tls = {server_level} '
                                 f'tls-ca-file = "{pki.ca[0]}" }}\n')
    for level, records, verdict, is_encrypted in (
            (TLS_NONE, [tlsa(pki.good)], "delivered", False), (TLS_REQUIRE, None, "delivered", True),
            (TLS_VERIFY, None, "unsent", None), (TLS_DANE, [tlsa(pki.own)], "delivered", True),
            (TLS_DANE, None, "unsent", None), (TLS_OPPORTUNISTIC, [tlsa(pki.good)], "unsent", None)):
        count = len(own.messages)
        result = send(out, own, *([] if records is None else [records]), tls=level)
        assert result[0] == verdict, (level, result)
        assert len(own.messages) - count == (verdict == "delivered")
        if verdict == "delivered":
            assert bool(own.sessions[-1].facts) == is_encrypted
    assert send(out, good, tls=TLS_VERIFY) == SENT


# --- resumption: only for the same demands; counted at the server

def reused(srv):
    return [s.facts[1] for s in srv.sessions if s.facts]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("more, dane", [("tls = opportunistic", ()), ("tls = require", ()),
                                        ("tls = verify", ()), ("tls = dane", "right"), ("pin", ())])
def test_resumption(smtpout, server, pki, version, more, dane):
    srv = server(speaks_tls, tls=context(pki.good, version))
    more = f'tls-fingerprints = {{ "{fingerprint(pki.good)}" }}' if more == "pin" else f'{more} tls-ca-file = "{pki.ca[0]}"'
    out = smtpout(section(more=more))
    for _ in range(4):
        assert send(out, srv, *([[tlsa(pki.good)]] if dane else [])) == SENT
    assert reused(srv) == [False, True, True, True]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_resumption_bypasses_nothing(smtpout, server, pki, version):
    """What OpenSSL would resume by itself: a session from before the records were there, or changed."""
    srv = server(speaks_tls, tls=context(pki.own, version))
    out = smtpout(section(more="tls = opportunistic") + section(name="strict", more=f'tls = verify tls-ca-file = "{pki.ca[0]}"'))
    right, wrong = tlsa(pki.own), tlsa(pki.good)
    expected = []
    for records, is_good, is_reused in (
            (None, True, False), (None, True, True),        # anybody will do
            ([wrong], False, False),                        # not from the session that proved nothing
            ([right], True, False), ([right], True, True),
            ([wrong], False, False),                        # the records changed
            ([wrong, right], True, False), ([wrong, right], True, True),
            ([], True, False), (None, True, True)):
        result = send(out, srv, *([] if records is None else [records]))
        assert (result == SENT) == is_good, (records, result)
        expected += [is_reused] if is_good else []
        assert reused(srv) == expected
    assert send(out, srv, server="strict")[1] == "tls"             # nor by another server's demands
    assert send(out, srv, host="other.example") == SENT and not reused(srv)[-1]


# --- the whole of it: Postfix, Exim, signed zones

IS_TLS = re.compile(rb"with esmtps", re.I)                  # in the server's Received line


def mail(mta, to="b@site.example"):
    mta.drop(f"From: a@here.example\nTo: {to}\nSubject: x\n\nhello\n")


@pytest.fixture
def peer_pki(folder):
    made = folder / "pki"
    made.mkdir()
    return peers.make_pki(made)


@pytest.mark.parametrize("kind", [peers.Postfix, peers.Exim])
def test_real_servers(mta, peer, peer_pki, kind):
    ca, cert, key = peer_pki
    one = peer(kind, pki=peer_pki)
    pin = fingerprint((cert, key))
    mta.configure(f'servers = {{ "verified", "pinned" }}\n'
                  f'server "verified" {{ host = "{one.address}" port = 2525 tls = verify tls-ca-file = "{ca}" }}\n'
                  f'server "pinned" {{ host = "{one.address}" port = 2525 tls-fingerprints = {{ "{pin}" }} }}\n').start()
    mail(mta)                                               # an address is no name: the second server takes it
    message, = one.wait(1)
    assert IS_TLS.search(message) and b"hello" in message
    mta.wait_log(r"to=<b@site\.example>.*status=sent.*server=pinned")


def zone_records(address, *records):
    return ["site MX 10 mx.peer", f"mx.peer A {address}", *records]


def record(tlsa_record):
    return "_2525._tcp.mx.peer TLSA %d %d %d %s" % (*tlsa_record[:3], tlsa_record[3].hex())


def direct(nsd, tls="", more=""):
    return nsd.conf() + f'retry {{ after = {{ "1h" }} }}\nserver "out" {{ method = direct port = 2525 deny-addresses = {{ }} {tls} {more} }}\n'


@pytest.mark.parametrize("tls, has_records", [("", True), ("tls = dane", True), ("", False)],
                         ids=["opportunistic", "dane", "TL12-none-as-the-zone-signs"])
def test_dane_with_signed_zones(mta, peer, peer_pki, tls, has_records):
    one = peer(peers.Postfix, pki=peer_pki)
    records = [record((3, 1, 1, b"\1" * 32)), record(tlsa(peer_pki[1:]))] if has_records else []
    nsd = peer(peers.Nsd, zone_records(one.address, *records))
    mta.start(direct(nsd, tls))
    mail(mta)
    message, = one.wait(1)
    assert IS_TLS.search(message)
    mta.wait_log(r"status=sent")


@pytest.mark.parametrize("kind, tls, words", [
    ("wrong", "", r"certificate of mx\.peer\.example matches no TLSA record of _2525\._tcp\.mx\.peer\.example"),
    ("wrong", "tls = dane", "matches no TLSA record"),
    ("bogus", "", r"DNS lookup of _2525\._tcp\.mx\.peer\.example failed: DNSSEC validation failed"),
    ("bogus", "tls = dane", r"DNS lookup of _2525\._tcp\.mx\.peer\.example failed"),
    ("lame", "", r"DNS lookup of _2525\._tcp\.mx\.peer\.example failed"),
    ("none", "tls = dane", "it has no signed TLSA record"),
    ("unsigned", "tls = dane", r"is not signed \(DNSSEC\)"),
    ("unusable", "tls = dane", "none of its TLSA records can be used"),
])
def test_tl11_never_a_downgrade(mta, peer, peer_pki, kind, tls, words):
    one = peer(peers.Postfix, pki=peer_pki)
    good = record(tlsa(peer_pki[1:]))
    more = {"wrong": [record((3, 1, 1, b"\1" * 32))], "bogus": [good], "none": [], "unsigned": [good],
            "lame": ["_2525._tcp.mx.peer NS ns", f"_2525._tcp.mx.peer DS 1 13 2 {'00' * 32}"], "unusable": [record((1, 1, 1, b"\1" * 32))]}[kind]
    options = {"tamper": (tlsa(peer_pki[1:])[3].hex(), "00" * 32)} if kind == "bogus" else {}
    nsd = peer(peers.Nsd, zone_records(one.address, *more), plain=["@ MX 10 mx.peer.example."], **options)
    mta.start(direct(nsd, tls))
    mail(mta, "b@plain.example" if kind == "unsigned" else "b@site.example")
    line, = mta.wait_log(r"status=deferred", timeout=30)
    assert re.search(words, line), line
    assert not one.files()


def test_tl12_unusable_records_still_mean_tls(mta, peer, peer_pki):
    one, clear = peer(peers.Postfix, pki=peer_pki), peer(peers.Postfix)
    unusable = record((1, 1, 1, b"\1" * 32))
    nsd = peer(peers.Nsd, [*zone_records(one.address, unusable), "clear MX 10 mx2.peer", f"mx2.peer A {clear.address}",
                           unusable.replace("mx.peer", "mx2.peer")])
    mta.start(direct(nsd))
    mail(mta)
    mail(mta, "b@clear.example")
    message, = one.wait(1)
    assert IS_TLS.search(message)
    line, = mta.wait_log(r"status=deferred")
    assert "TLS is required, but was not offered" in line and not clear.files()


def test_dane_for_a_relay(mta, peer, peer_pki):
    """The host's own zone counts; one server fails for want of records, the next has them."""
    one = peer(peers.Postfix, pki=peer_pki)
    nsd = peer(peers.Nsd, [f"mx.peer A {one.address}", f"other A {one.address}", record(tlsa(peer_pki[1:]))])
    mta.start(nsd.conf() + 'servers = { "none", "signed" }\n' + "".join(
        f'server "{name}" {{ host = "{host}" port = 2525 tls = dane }}\n'
        for name, host in (("none", "other.example"), ("signed", "mx.peer.example"))))
    mail(mta)
    one.wait(1)
    mta.wait_log(r"relay=mx\.peer\.example\[.*status=sent.*server=signed")


def test_level_of_a_destination(mta, peer, peer_pki):
    """A server in clear text, one domain with DANE, one grouped by its MX host that must have TLS."""
    one, clear = peer(peers.Postfix, pki=peer_pki), peer(peers.Postfix)
    nsd = peer(peers.Nsd, [*zone_records(one.address, record(tlsa(peer_pki[1:]))), "plainly MX 10 mx.peer", "grouped MX 10 mx2.peer",
                           f"mx2.peer A {clear.address}"])
    mta.start(direct(nsd, "tls = none") + 'destination "site.example" { tls = dane }\n'
              'destination "group" { mx = { "mx2.peer.example" } tls = require }\n')
    mail(mta)
    mail(mta, "b@plainly.example")
    mail(mta, "b@grouped.example")
    messages = one.wait(2)
    assert {bool(IS_TLS.search(m)): b"b@site" in m for m in messages} == {True: True, False: False}
    line, = mta.wait_log(r"to=<b@grouped\.example>.*status=deferred")
    assert "TLS is required, but was not offered" in line and not clear.files()


def test_keys_are_read_as_root_and_by_smtpout_alone(mta, server, pki, folder):
    """A key that only root can read is shown to the server; nobody but smtpout ever had it."""
    cert = pki.issue("client.here.example", by=pki.ca)
    kept = folder / "client.key"
    kept.write_bytes(cert[1].read_bytes())
    kept.chmod(0o600)
    srv = server(speaks_tls, tls=context(pki.good, client_ca=pki.ca))
    mta.start(f'server "out" {{ host = "{srv.address}" port = 2525 tls = require tls-client-cert = "{cert[0]}" '
              f'tls-client-key = "{kept}" }}\n')
    mail(mta)
    srv.wait(1)
    wait_until(lambda: srv.sessions[0].facts, what="the session's facts")
    assert srv.sessions[0].facts[2]["subject"] == ((("commonName", "client.here.example"),),)
