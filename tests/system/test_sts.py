"""MTA-STS (RFC 8461): policies fetched over HTTPS, kept, and heeded by direct delivery. Cases TL13, TL14."""
import http.server
import json
import threading

import pytest

from fake_dns import FakeDns
from fake_smtp import free_address
from harness import dns_section, wait_until
from test_smtp import server  # noqa: F401 (fixture)
from test_tls import Pki, context

DIRECT = 'server "direct" { method = direct port = 2525 deny-addresses = {} timeout = "5s" connect-timeout = "5s" }\n'
DOMAINS = ["there.example", "hang.example", "garbage.example", "moved.example", "html.example"]


class PolicyHost(http.server.ThreadingHTTPServer):
    """Serves .policies[domain]: a text; or does what it is told: hang, moved, html, garbage."""
    daemon_threads = True

    def __init__(self, cert, policies):
        self.policies, self.asked, self.released = policies, [], threading.Event()
        super().__init__((free_address(), 443), PolicyHandler)
        self.socket = context(cert).wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle_error(self, request, client_address):
        """A handshake that the client breaks off is what some tests want."""

    def close(self):
        self.released.set()
        self.shutdown()
        self.server_close()


class PolicyHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        domain = self.headers["Host"].removeprefix("mta-sts.")
        assert self.path == "/.well-known/mta-sts.txt"
        self.server.asked.append(domain)
        answer = self.server.policies.get(domain, "")
        if answer == "hang":
            self.server.released.wait(60)
            return
        self.send_response(302 if answer == "moved" else 200)
        if answer == "moved":
            self.send_header("Location", f"https://mta-sts.there.example{self.path}")
        self.send_header("Content-Type", "text/html" if answer == "html" else "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write((policy() if answer == "html" else answer).encode())

    def log_message(self, *_):
        pass


def policy(*mx, mode="enforce", age=86400):
    return f"version: STSv1\r\nmode: {mode}\r\nmax_age: {age}\r\n" + "".join(f"mx: {name}\r\n" for name in mx or ["mx.there.example"])


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    made = Pki(tmp_path_factory.mktemp("pki"))
    names = [f"mta-sts.{domain}" for domain in DOMAINS]
    made.policy_host = made.issue("policies", names, by=made.ca)
    made.good = made.issue("mx.there.example", ["mx.there.example", "mx2.there.example"], by=made.ca)
    made.other = made.issue("other.example", by=made.ca)
    made.untrusted = made.issue("policies", names)
    return made


class World:
    """A domain with its DNS, policy host and MX hosts; .start() runs Postern in it."""

    def __init__(self, mta, server, pki):  # noqa: F811
        self.mta, self.server, self.pki, self.made = mta, server, pki, []
        self.zone, self.mx = {}, {}
        self.host = self.serve(pki.policy_host)
        self.dns = None

    def serve(self, cert, policies=None):
        self.made.append(PolicyHost(cert, {} if policies is None else policies))
        return self.made[-1]

    def domain(self, name="there.example", text=None, id="1", hosts=("mx.there.example",), address=None):
        """A domain with a policy; its MX records are `hosts`."""
        self.zone[f"{name} MX"] = [f"{10 * (n + 1)} {host}." for n, host in enumerate(hosts)]
        self.zone[f"mta-sts.{name} A"] = [address or self.host.server_address[0]]
        self.publish(name, text, id)

    def publish(self, name, text, id):
        self.zone[f"_mta-sts.{name} TXT"] = [f'"v=STSv1; id={id};"', '"something else"']
        if text is not None:
            self.host.policies[name] = text
        if self.dns:
            self.dns.zone.update(self.zone)

    def mail_host(self, cert, name="mx.there.example"):
        """cert None: it offers no STARTTLS."""
        def talk(s):
            s.say("220 hi")
            s.serve(extensions=["PIPELINING"] + (["STARTTLS"] if cert else []), dot=lambda _: secure.append(s.tls is not None))
        secure = []
        self.mx[name] = self.server(talk, tls=cert and context(cert))
        self.mx[name].secure = secure
        self.zone[f"{name} A"] = [self.mx[name].address]
        return self.mx[name]

    def start(self, more=""):
        self.dns = FakeDns(self.zone, ttl=1)
        self.mta.env["SSL_CERT_FILE"] = str(self.pki.ca[0])
        self.mta.start(dns_section(self.dns, self.mta.dir) + DIRECT + more)

    def test(self, more="", domain="there.example"):
        """postern test: (exit status, rows); the service does not run."""
        self.dns = FakeDns(self.zone, ttl=1)
        self.mta.env["SSL_CERT_FILE"] = str(self.pki.ca[0])
        self.mta.configure(dns_section(self.dns, self.mta.dir) + DIRECT + more)
        done = self.mta.postern("test", "direct", "--from", "a@here.example", "--to", f"b@{domain}", "--json")
        assert not done.stderr, done.stderr
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def send(self, domain="there.example", ident="1"):
        self.mta.drop(f"From: a@here.example\nTo: b@{domain}\nMessage-ID: <{ident}@{domain}>\n\nx\n")

    def close(self):
        for one in self.made:
            one.close()
        if self.dns:
            self.dns.stop()


@pytest.fixture
def world(mta, server, pki):  # noqa: F811
    made = World(mta, server, pki)
    yield made
    made.close()


def test_enforced(world):
    """The first message waits for the policy, and goes encrypted to a host that proves its name."""
    mx = world.mail_host(world.pki.good)
    world.domain(text=policy("*.there.example"))
    world.start()
    world.send()
    mx.wait(1)
    assert world.mta.grep(r"there\.example has an MTA-STS policy: mode enforce, hosts \*\.there\.example, for 86400 s")
    assert mx.secure == [True]


@pytest.mark.parametrize("cert, words", [("other", r"is for other\.example; expected mx\.there\.example"), ("untrusted", "certificate"),
                                         (None, "TLS is required, but was not offered")])
def test_no_proof_no_mail(world, cert, words):
    """A host named by the policy that shows another's certificate, one nobody knows, or no TLS: the mail waits."""
    mx = world.mail_host(cert and getattr(world.pki, cert))
    world.domain(text=policy())
    world.start()
    world.send()
    line = world.mta.wait_log("status=deferred")
    assert world.mta.grep(f"status=deferred.*{words}"), line
    assert not mx.messages


def test_a_host_that_the_policy_does_not_name_is_left_out(world):
    stray, mx = world.mail_host(world.pki.good, "stray.example"), world.mail_host(world.pki.good)
    world.domain(text=policy(), hosts=["stray.example", "mx.there.example"])
    world.start()
    world.send()
    mx.wait(1)
    assert not stray.sessions and world.mta.grep("host stray.example of there.example is not named")


def test_no_host_is_named(world):
    mx = world.mail_host(world.pki.good)
    world.domain(text=policy("mx.elsewhere.example"))
    world.start()
    world.send()
    world.mta.wait_log("dsn=4.7.5.*status=deferred.*the MTA-STS policy of there.example names none of its MX hosts")
    assert not mx.sessions


@pytest.mark.parametrize("mode, more", [("testing", ""), ("none", ""), ("enforce", 'destination "there.example" { tls = none }\n')])
def test_what_does_not_bind(world, mode, more):
    """Modes testing and none, and a destination that is told to be otherwise."""
    mx = world.mail_host(None)
    world.domain(text=policy("mx.elsewhere.example", mode=mode))
    world.start(more)
    world.send()
    mx.wait(1)


def test_no_policy_to_be_had(world):
    """Nothing is known of these domains, and their policy hosts are dead, unknown, slow or talk nonsense: as without."""
    mx = world.mail_host(None)
    untrusted = world.serve(world.pki.untrusted, {"there.example": policy("mx.elsewhere.example")})
    world.domain(address=untrusted.server_address[0])
    world.domain("down.example", address=free_address())
    for word in ("hang", "garbage", "moved", "html"):
        world.domain(f"{word}.example", word)
    world.start()
    for domain in ("down.example", *DOMAINS):
        world.send(domain)
    mx.wait(6)
    assert not untrusted.asked
    for domain, why in (("there", "certificate"), ("down", ""), ("garbage", "no colon"), ("moved", "302"), ("html", "not text/plain")):
        assert world.mta.grep(f"the MTA-STS policy of {domain}.example cannot be fetched: .*{why}"), domain
    asked = list(world.host.asked)
    world.send("garbage.example", "2")
    mx.wait(7)
    assert world.host.asked == asked            # not again for each message


def test_kept_until_it_is_over(world):
    """Policies outlive their host, their record, the resolver and the instance; another id brings another one."""
    mx = world.mail_host(None)
    for domain in ("there.example", "moved.example"):
        world.domain(domain, policy())
    world.start()
    for domain in ("there.example", "moved.example"):
        world.send(domain)
    world.mta.wait_log("status=deferred.*TLS is required", 2)
    wait_until(lambda: (world.mta.spool / "run/mta-sts").exists())
    world.publish("there.example", "garbage", "2")
    world.mta.restart()
    world.send(ident="2")
    world.mta.wait_log("the MTA-STS policy of there.example cannot be fetched")
    world.mta.wait_log("status=deferred.*TLS is required", 3)
    world.dns.zone.pop("_mta-sts.moved.example TXT")
    old, = world.mta.pids("resolver")
    world.mta.kill("resolver")
    wait_until(lambda: [pid for pid in world.mta.pids("resolver") if pid != old])
    world.send("moved.example", ident="3")
    world.mta.wait_log("status=deferred.*TLS is required", 4)
    assert not mx.messages and world.mta.spool.joinpath("run/mta-sts").stat().st_mode & 0o777 == 0o600
    world.publish("there.example", policy(mode="none"), "3")
    world.mta.restart()
    world.send(ident="4")
    world.mta.wait_log("there.example has an MTA-STS policy: mode none")
    assert not mx.messages                      # the old one held while the new one was fetched
    world.mta.restart()
    world.send(ident="5")
    mx.wait(1)


# --- postern test sees what mail will see

def texts(rows, step, result="ok"):
    return [row["text"] for row in rows if row["step"] == step and row["result"] == result]


def test_a_test_heeds_the_policy(world):
    stray, mx = world.mail_host(world.pki.good, "stray.example"), world.mail_host(world.pki.good)
    world.domain(text=policy("*.there.example"), hosts=["stray.example", "mx.there.example"])
    status, rows = world.test()
    assert status == 0 and mx.secure == [True] and not stray.sessions
    assert texts(rows, "MTA-STS") == ["policy of there.example: mode enforce, hosts *.there.example, for 86400 s"]
    assert "stray.example" in texts(rows, "MTA-STS", "advice")[0]
    assert "a known authority vouches for it, and the name mx.there.example is in it (MTA-STS)" in texts(rows, "certificate")


@pytest.mark.parametrize("cert, words", [("other", "is for other.example; expected mx.there.example"), (None, "TLS is required, but was not offered")])
def test_a_test_fails_where_mail_would_wait(world, cert, words):
    mx = world.mail_host(cert and getattr(world.pki, cert))
    world.domain(text=policy())
    status, rows = world.test()
    assert status == 69 and not mx.messages and any(words in row["text"] for row in rows if row["result"] == "failed")
    assert any("MTA-STS policy" in row["text"] for row in rows if row["result"] == "advice" and row["step"] != "MTA-STS"), rows


def test_a_test_of_a_domain_whose_policy_names_no_host(world):
    mx = world.mail_host(world.pki.good)
    world.domain(text=policy("mx.elsewhere.example"))
    status, rows = world.test()
    assert status == 69 and not mx.sessions
    assert texts(rows, "MTA-STS", "failed") == ["the MTA-STS policy of there.example names none of its MX hosts"]


@pytest.mark.parametrize("text, word", [(policy("mx.elsewhere.example", mode="testing"), "mode testing"), ("garbage", "cannot be fetched"),
                                        (None, "cannot be fetched")], ids=["testing", "garbage", "dead"])
def test_a_test_of_a_domain_whose_policy_does_not_bind(world, text, word):
    mx = world.mail_host(None)
    world.domain(text=text, address=None if text else free_address())
    status, rows = world.test()
    assert status == 0 and len(mx.messages) == 1
    assert any(word in row["text"] for row in rows if row["step"] == "MTA-STS"), rows


@pytest.mark.parametrize("more, record", [('destination "there.example" { tls = none }\n', "v=STSv1; id=1;"), ("", "v=spf1 -all")],
                         ids=["told-otherwise", "no-record"])
def test_a_test_where_no_policy_counts(world, more, record):
    """Without a record nobody asks the policy host."""
    mx = world.mail_host(None)
    world.domain(text=policy("mx.elsewhere.example"))
    world.zone["_mta-sts.there.example TXT"] = [f'"{record}"']
    status, rows = world.test(more)
    assert status == 0 and len(mx.messages) == 1 and not texts(rows, "MTA-STS")
    assert more or not world.host.asked
