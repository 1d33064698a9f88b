"""What options do at real programs: Postfix, Exim, OpenSMTPD and Dovecot say in their own words what they have seen.

Levels of TLS against faults are in test_tls.py, mechanisms in test_login.py, limits in test_limit*.py, POP faults in
test_pop.py; here are the options that only another program can prove, and the presets.
"""
import collections
import datetime
import re
import socketserver
import subprocess
import threading
import time

import harness
import peers
import pytest
from fake_smtp import free_address
from harness import wait_until
from test_deliver import letter
from test_login import login_server, secret  # noqa: F401 (fixture)
from test_manual import available, used
from test_tls import fingerprint


@pytest.fixture
def pki(folder):
    return peers.make_pki(folder)


def drop(mta, server, ident=None, to="b@there.example"):
    """A message for that server."""
    mta.drop(b"X-Postern-Server: %s\n" % server.encode() + letter(ident=ident or server, to=to))


def arrived(peer, ident):
    """What the peer says of the message in its Received lines and log, on one line."""
    message, = wait_until(lambda: [m for m in peer.messages() if f"<{ident}@here.example>".encode() in m], what=ident)
    return re.sub(r"\s+", " ", message.decode(errors="replace").split("\n\n")[0])


# name, options, what Postfix writes into Received or, with "!", why the mail waits
TLS = [
    ("by-name", 'tls = verify tls-ca-file = "{ca}"', r"from mail\.here\.example .*using TLSv1\.[23]"),
    ("no-ca", "tls = verify", "!is not signed by a known authority"),
    ("required", "tls = require", "using TLSv1"),
    ("clear", "tls = none", r"\(Postfix\) with ESMTP "),
    ("pinned", 'tls-fingerprints = {{ "{pin}" }}', "using TLSv1"),
    ("pinned-wrong", 'tls-fingerprints = {{ "{other_pin}" }}', "!none of the expected tls-fingerprints"),
    ("certified", 'tls = require tls-client-cert = "{client}" tls-client-key = "{client_key}"',
     r'\(Client CN "client\.here\.example", Issuer "test-ca" \(verified OK\)\)'),
    ("wrapped", 'port = 2465 tls-wrapper = true tls = verify tls-ca-file = "{ca}"', "using TLSv1"),
    ("port-465", 'port = 465 tls-ca-file = "{ca}"', "using TLSv1"),
    ("old", "port = 2526 tls = require", r"using TLSv1\.2 "),
    ("new-only", "port = 2526 tls = require tls-min-version = 1.3", r"!tls-min-version"),
    ("from-there", 'tls = none source-addresses = {{ "127.99.1.7" }}', r"from mail\.here\.example .*\[127\.99\.1\.7\]"),
]


def test_tls_and_addresses_at_postfix(mta, peer, pki, folder, zone):
    """One Postfix, a server section for each row."""
    client = folder / "client"
    client.mkdir()
    for name in ("ca.pem", "ca.key"):
        (client / name).write_bytes((folder / name).read_bytes())
    subject, key = issue(client, "client.here.example")
    address = free_address()
    postfix = peer(peers.Postfix, pki=pki, address=address,
                   more=f"smtpd_tls_received_header = yes | smtpd_tls_ask_ccert = yes | smtpd_tls_CAfile = {pki[0]}",
                   services=f"{address}:465 inet n - n - - smtpd -o smtpd_tls_wrappermode=yes | "
                            f"{address}:2465 inet n - n - - smtpd -o smtpd_tls_wrappermode=yes | "
                            f"{address}:2526 inet n - n - - smtpd -o smtpd_tls_protocols=TLSv1.2")
    values = {"ca": pki[0], "pin": fingerprint(pki[1:]), "other_pin": fingerprint((pki[0], None)), "client": subject, "client_key": key}
    sections = "".join('server "%s" { host = "mx.peer.example" %s %s }\n' % (
        name, "" if "port" in more else "port = 2525", more.format(**values)) for name, more, _ in TLS)
    mta.start(zone({"mx.peer.example A": [address]}) + 'retry { after = { "1h" } }\n' + sections)
    for name, _, _ in TLS:
        drop(mta, name)
    for name, _, wanted in TLS:
        if wanted[0] == "!":
            line, = mta.wait_log(f"status=deferred .*server={name} ")
            assert re.search(wanted[1:], line), line
        else:
            assert re.search(wanted, arrived(postfix, name)), (name, arrived(postfix, name))
    assert len(postfix.messages()) == sum(wanted[0] != "!" for *_, wanted in TLS)


def issue(folder, name):
    """A certificate for name by the authority whose files are in folder."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                    "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-subj", f"/CN={name}", "-keyout", folder / "key",
                    "-out", folder / "crt", "-addext", "basicConstraints=critical,CA:FALSE"], check=True, capture_output=True)
    return folder / "crt", folder / "key"


def test_connections_at_postfix(mta, peer):
    """It allows three connections; one is said to be renewed after two messages. Its log counts."""
    postfix = peer(peers.Postfix, more="smtpd_client_connection_count_limit = 3 | smtpd_client_event_limit_exceptions =")
    mta.start(postfix.relay("many", "tls = none max-connections = 3") +
              postfix.relay("renewed", 'tls = none max-connections = 1 reconnect-every = 2 source-addresses = { "127.99.1.8" }'))
    for i in range(60):
        drop(mta, "many", str(i))
    for i in range(8):
        drop(mta, "renewed", f"r{i}")
    postfix.wait(68)
    mta.wait_empty()
    log = (postfix.folder / "log").read_text()
    assert len(re.findall(r"\bconnect from unknown\[127\.99\.1\.8\]", log)) == 4
    assert "limit exceeded" not in log and not mta.grep("status=deferred")


@pytest.mark.parametrize("level, words", [("opportunistic", "trying without"), ("require", "status=deferred .*handshake")])
def test_opensmtpd_promises_tls_and_fails(mta, peer, pki, level, words):
    opensmtpd = peer(peers.OpenSmtpd, pki=pki)
    mta.start(opensmtpd.relay(more=f"tls = {level}"))
    mta.drop(letter())
    mta.wait_log(words)
    if level == "opportunistic":
        opensmtpd.wait(1)
    assert level == "opportunistic" or not opensmtpd.files()


def test_four_programs_behind_routes_and_domains(mta, peer, zone):
    """One message for four domains: by route, by exclusion, by its MX, and by a destination's own terms."""
    postfix, exim, smtpd, sink = (peer(kind) for kind in (peers.Postfix, peers.Exim, peers.OpenSmtpd, peers.SmtpSink))
    dns = zone({"to-exim.example MX": ["10 exim.example"], "exim.example A": [exim.address], "to-sink.example A": [sink.address]})
    mta.start(dns + 'servers = { "direct", "provider" }\n'
              'server "direct" { method = direct port = 2525 deny-addresses = {} exclude-domains = { "no.example, to-smtpd.example" } }\n' +
              smtpd.relay("provider") + postfix.relay("gateway") +
              'route "r" { sender = { "here.example" } recipient = { "to-postfix.example" } servers = { "gateway" } }\n'
              'destination "to-sink.example" { tls = none max-connections = 1 }\n')
    mta.drop(letter(envelope_to=[f"b@to-{name}.example" for name in ("postfix", "exim", "smtpd", "sink")]))
    for one in (postfix, exim, smtpd, sink):
        assert len(one.wait(1)) == 1
    mta.wait_empty()
    assert len(mta.grep("status=sent")) == 4


def test_denied_addresses_are_not_connected_to(mta, server, zone):
    """DN05: by default no mail host of direct delivery is on this machine; the message goes back."""
    here = server()
    mta.start(zone({"there.example MX": ["10 mx.there.example"], "mx.there.example A": [here.address]}) +
              'server "direct" { method = direct port = 2525 }\n')
    mta.drop(letter())
    line, = mta.wait_log("to=<b@there.example>.*status=bounced")
    assert "forbidden addresses (deny-addresses)" in line and "dsn=5.4.6" in line and not here.sessions


def test_a_connection_is_renewed_after_999_messages(mta, sink):
    """Without any option that says so; only one connection, to see it."""
    one = sink()
    mta.start(one.relay(more="max-connections = 1"))
    mta.stop()
    for i in range(1005):
        mta.drop(letter(ident=str(i)))
    mta.start()                                 # all there at once: the connection is never idle
    counts = collections.Counter(row["session"] for row in one.wait(1005, timeout=60))
    assert sorted(counts.values()) == [6, 999]
    mta.wait_empty()


def test_the_next_attempt_comes_after_an_hour(mta):
    """Without any option that says so."""
    mta.start(f'server "out" {{ host = "{free_address()}" port = 2525 }}\n')
    mta.drop(letter())
    mta.wait_log("status=deferred .*Connection refused")
    message, = mta.queue()
    wait_s = datetime.datetime.fromisoformat(message["next_attempt"]).timestamp() - time.time()
    assert message["attempts"] == 1 and 3590 <= wait_s <= 3601, message


# --- logins

def test_login_in_clear_where_allowed(mta, peer, pki, secret, sink):  # noqa: F811
    target = sink()
    dovecot = peer(peers.Dovecot, pki, target, mechanisms="plain login")
    file = secret()
    mta.start(login_server(dovecot, file, name="allowed", tls="none", more="auth-without-tls = true") +
              login_server(dovecot, file, name="not-allowed", tls="none"))
    drop(mta, "not-allowed")
    mta.wait_log("server not-allowed is paused until .*in clear")
    assert not dovecot.logins() and target.count() == 0
    drop(mta, "allowed")
    target.wait(1)
    assert "method=PLAIN" in wait_until(dovecot.logins)[0]


PRESETS = ("gmail", "outlook365", "ses", "sendgrid", "mailgun", "yahoo", "icloud")


def test_presets_at_dovecot(mta, peer, pki, secret, sink):  # noqa: F811
    """Each logs in and sends under the limits that `postern presets` shows; only the way there is ours."""
    target, file = sink(), secret()
    dovecot = peer(peers.Dovecot, pki, target)
    mta.start("".join(f'server "{name}" {{ method = {name} display-name = "My {name}" host = "{dovecot.address}" port = {dovecot.port} '
                      f'tls = require username = "bob" password-file = "{file}" }}\n' for name in PRESETS))
    for name in PRESETS:
        drop(mta, name)
    target.wait(len(PRESETS))
    servers = {row["name"]: row for row in mta.status()["servers"]}
    for name in PRESETS:
        shown = mta.postern("presets", name, check=True).stdout
        assert servers[name]["display_name"] == f"My {name}" and servers[name]["method"] == name
        wanted = re.search(r"limits += {(.*)}", shown)
        assert len(servers[name]["limits"]) == (wanted[1].count('"') // 2 if wanted else 0), (name, shown)
        assert all(row["used"] == 1 for row in servers[name]["limits"])
    assert f"My {PRESETS[0]}" in mta.postern("status", check=True).stdout
    assert len(dovecot.logins()) == len(PRESETS)


# --- POP before SMTP as it was meant: a mail server that asks the POP3 server's log

class Gate(socketserver.ThreadingTCPServer):
    """Postfix's policy service: lets in what Dovecot's log names, unless that was forgotten."""
    daemon_threads = allow_reuse_address = True

    def __init__(self, dovecot):
        self.dovecot, self.forgotten, self.refused = dovecot, 0, 0
        super().__init__((free_address(), 10040), Gate.Request)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    class Request(socketserver.StreamRequestHandler):
        def handle(self):
            request = {}
            for line in self.rfile:
                name, _, value = line.decode().strip().partition("=")
                if name:
                    request[name] = value
                    continue
                known = self.server.dovecot.logins(rf"pop3-login: Info: Login: .*rip={re.escape(request['client_address'])},")
                is_known = len(known) > self.server.forgotten
                self.server.refused += not is_known
                self.wfile.write(b"action=%s\n\n" % (b"permit" if is_known else b"550 5.7.1 Relaying denied: fetch your mail first"))


def test_pop_before_smtp_at_dovecot_and_postfix(mta, peer, pki, secret):  # noqa: F811
    dovecot = peer(peers.Dovecot, pki)
    with Gate(dovecot) as gate:
        postfix = peer(peers.Postfix, more=f"smtpd_relay_restrictions = check_policy_service inet:{gate.server_address[0]}:10040, reject")
        mta.start(f'server "out" {{ host = "{postfix.address}" port = 2525 tls = none tls-ca-file = "{pki[0]}"\n'
                  f'pop-before-smtp {{ host = "{dovecot.address}" port = 995 tls = require username = "bob" '
                  f'password-file = "{secret()}" valid-for = "1h" }} }}\n')
        mta.drop(letter(ident="1"))
        postfix.wait(1)
        assert gate.refused == 0 and len(dovecot.logins()) == 1
        gate.forgotten = 1                      # sooner than valid-for says
        mta.drop(letter(ident="2"))
        postfix.wait(2)
        assert gate.refused == 1 and len(dovecot.logins()) == 2
        gate.shutdown()
    assert not mta.grep("status=(bounced|deferred)")


# --- none is forgotten

def test_every_option_is_in_some_test():
    """A new one needs a test that sets it; the examples of the manual are none."""
    texts = "".join(path.read_text() for folder in ("system", "crash", "fake") for path in (harness.ROOT / "tests" / folder).glob("*.py")
                    if path.name != "test_manual.py")
    missing = {option for _, option in available() if not re.search(rf'(?<![\w-]){option} *=|"{option}"', texts)}
    assert not missing, f"no test sets {sorted(missing)}"
    assert used('a = 1 b "t" { c = { "x" } }') == {("", "a"), ("b", "c")}
