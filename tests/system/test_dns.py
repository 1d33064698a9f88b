"""The resolver alone, with honest, silent, broken and lying name servers: what becomes temporary, what becomes final."""
import os
import pwd
import re
import socket
import time

import pytest

import fake_smtp
from childproc import PEER_ALIVE, PEER_DEAD, Child, encode
from harness import SANITIZED, SLOW, wait_until
from fake_dns import FakeDns
from peers import Nsd

MX, HOST = 1, 2
OK, TEMPORARY, NO_DOMAIN, NULL_MX, DENIED = 1, 2, 3, 4, 5
DIRECT, RELAY, OPEN = 0, 1, 2
SERVERS = """
log = "stderr"
server "direct" { method = direct }
server "relay" { method = relay  host = "localhost" }
server "open" { method = direct  deny-addresses = {} }
"""


def hosts_of(blob):
    """[(preference, is_secure, name, [address, ...]), ...]: the layout of lib/hosts.c. Those with TLSA records (None:
    unusable ones) have a fifth element: (base, [(usage, selector, matching, data), ...])."""
    hosts, at = [], 1
    for _ in range(blob[0] if blob else 0):
        preference, flags, length = int.from_bytes(blob[at:at + 2], "big"), blob[at + 2], blob[at + 3]
        at += 4
        name = blob[at:at + length].decode()
        at += length
        count, addresses = blob[at], []
        at += 1
        for _ in range(count):
            family = socket.AF_INET6 if blob[at] == 6 else socket.AF_INET
            size = 4 if family == socket.AF_INET else 16
            addresses.append(socket.inet_ntop(family, blob[at + 1:at + 1 + size]))
            at += 1 + size
        hosts.append((preference, bool(flags & 1), name, addresses, *([None] if flags & 2 else [])))
        if flags & 4:
            base, at = blob[at + 1:at + 1 + blob[at]].decode() or name, at + 1 + blob[at]
            end, at, records = at + 2 + int.from_bytes(blob[at:at + 2], "big"), at + 2, []
            while at < end:
                size = int.from_bytes(blob[at + 3:at + 5], "big")
                records.append((*blob[at:at + 3], blob[at + 5:at + 5 + size]))
                at += 5 + size
            hosts[-1] += ((base, records),)
    assert at == len(blob) or not blob, blob
    return hosts


def asked_names(dns):
    """Of mail domains and hosts: neither the root nor MTA-STS records."""
    return {name.removeprefix("_mta-sts.") for name in dns.names()} - {"."}


class Resolver(Child):
    request = 0

    def put(self, name, kind=MX, server=DIRECT):
        self.request += 1
        self.send("RESOLVE", request=self.request, kind=kind, server=server, name=name)
        return self.request

    def get(self, timeout=15):
        name, answer = self.receive(timeout=timeout)
        assert name == "RESOLVED"
        answer["hosts"] = hosts_of(answer["hosts"])
        return answer

    def ask(self, name, kind=MX, server=DIRECT, timeout=15):
        request = self.put(name, kind, server)
        answer = self.get(timeout)
        assert answer["request"] == request
        return answer

    def names(self, name):
        answer = self.ask(name)
        assert answer["status"] == OK, answer
        return [host[2] for host in answer["hosts"]]


@pytest.fixture
def resolver(tmp_path):
    """A function: dns section -> running resolver."""
    made = []

    def start(conf, **options):
        folder = tmp_path / f"resolver-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        made.append(Resolver("resolver", SERVERS + conf, folder, **options))
        return made[-1]

    yield start
    for child in made:
        child.__exit__()
        assert not re.search(r"Sanitizer|runtime error|\bBUG\b|assertion", child.log()), child.log()


@pytest.fixture
def odd_dns():
    made = []

    def start(zone, **options):
        made.append(FakeDns(zone, **options))
        return made[-1]

    yield start
    for server in made:
        server.stop()


@pytest.fixture
def nsd(tmp_path):
    made = []

    def start(*args, **options):
        made.append(Nsd(tmp_path, *args, **options))
        return made[-1]

    yield start
    for server in made:
        server.stop()


def test_order_ttl_and_families(resolver, odd_dns):
    dns = odd_dns({"a.example MX": ["20 two.a.example", "10 one.a.example"], "one.a.example A": ["192.0.2.1"],
                   "one.a.example AAAA": ["2001:db8::1"], "two.a.example A": ["192.0.2.2"]})
    child = resolver(dns.conf())
    answer = child.ask("A.Example.")
    assert answer["status"] == OK and not answer["secure"] and 1 <= answer["ttl_s"] <= 30
    assert answer["hosts"] == [(10, False, "one.a.example", ["2001:db8::1", "192.0.2.1"]), (20, False, "two.a.example", ["192.0.2.2"])]
    asked = len(dns.asked)
    assert child.ask("a.example")["hosts"] == answer["hosts"]
    assert len(dns.asked) == asked, "the second answer comes from the cache"


def test_no_mx_means_the_domain_itself(resolver, odd_dns):
    dns = odd_dns({"a.example A": ["192.0.2.1"], "b.example": ["CNAME a.example."], "b.example MX": ["CNAME a.example."],
                   "c.example MX": ["5 b.example"]})
    child = resolver(dns.conf())
    assert child.ask("a.example")["hosts"] == [(0, False, "a.example", ["192.0.2.1"])]
    assert child.ask("c.example")["hosts"] == [(5, False, "b.example", ["192.0.2.1"])], "CNAME of a mail host"


def test_dn01_negative_answers_are_asked_twice(resolver, odd_dns):
    dns = odd_dns({"empty.example TXT": []})
    child = resolver(dns.conf())
    for name in ("gone.example", "empty.example"):
        answer = child.ask(name)
        assert answer["status"] == NO_DOMAIN and name in answer["text"]
        assert dns.count(name, "MX") == 2, "not from the cache"
    started = time.monotonic()
    assert child.ask("gone.example")["status"] == NO_DOMAIN
    assert time.monotonic() - started > 0.9 and dns.count("gone.example", "MX") == 3


def test_dn01_second_answer_counts(resolver, odd_dns):
    def once_gone(query):
        return "nxdomain" if dns.count("a.example", "MX") < 2 else ["10 mx.a.example"]

    def then_broken(query):
        return "nxdomain" if dns.count("b.example", "MX") < 2 else "servfail"

    dns = odd_dns({"a.example MX": once_gone, "mx.a.example A": ["192.0.2.1"], "b.example": then_broken})
    child = resolver(dns.conf())
    assert child.names("a.example") == ["mx.a.example"]
    assert child.ask("b.example")["status"] == TEMPORARY


def test_dn01_nothing_is_believed_before_something_was_found(resolver, odd_dns):
    """A hotel's login page: not even the root is there. Once anything was found a denial counts."""
    dns = odd_dns({"*": "nxdomain"})
    child = resolver(dns.conf())
    answer = child.ask("gone.example")
    assert answer["status"] == TEMPORARY and "not believed" in answer["text"] and dns.count("gone.example", "MX") == 2
    dns.zone = {"a.example A": ["192.0.2.1"]}
    assert child.names("a.example") == ["a.example"]
    assert child.ask("gone.example")["status"] == NO_DOMAIN


def test_dn19_too_many_in_a_row(resolver, odd_dns):
    """Twenty different names at once; the root is there, and so was a domain before."""
    dns = odd_dns({"a.example A": ["192.0.2.1"]})
    child = resolver(dns.conf())
    assert child.names("a.example") == ["a.example"]
    wanted = {child.put(f"gone{i}.example") for i in range(20)}
    answers = [child.get() for _ in wanted]
    assert {answer["request"] for answer in answers} == wanted and {answer["status"] for answer in answers} == {TEMPORARY}
    assert child.log().count("find none of 20 domains in a row") == 1
    assert child.names("a.example") == ["a.example"], "from the cache, which proves nothing"
    assert child.ask("gone0.example")["status"] == TEMPORARY
    dns.zone["b.example A"] = ["192.0.2.1"]
    assert child.names("b.example") == ["b.example"]
    assert child.ask("gone0.example")["status"] == NO_DOMAIN
    wait_until(lambda: "find domains again" in child.log())


@pytest.mark.parametrize("how", ["servfail", "refused", "silent", "lie", "loop", "short"])
def test_dn02_dn12_doubt_is_temporary(resolver, odd_dns, how):
    dns = odd_dns({"a.example": how, "b.example MX": ["1 bad.b.example", "2 mx.b.example"], "bad.b.example": how,
                   "mx.b.example A": ["192.0.2.1"], "c.example MX": ["1 bad.b.example"]})
    child = resolver(dns.conf("2s"))
    started = time.monotonic()
    answer = child.ask("a.example")
    assert answer["status"] == TEMPORARY and "a.example" in answer["text"], answer
    assert time.monotonic() - started < 10 * SLOW
    if how in ("servfail", "refused", "silent"):
        assert child.names("b.example") == ["mx.b.example"], "the other host works"
        assert child.ask("c.example")["status"] == TEMPORARY


def test_dn02_nobody_listens(resolver):
    address = fake_smtp.free_address()
    child = resolver(f'dns {{ servers = {{ "{address}@5353" }} timeout = "1s" }}')
    started = time.monotonic()
    for name in ("a.example", "b.example"):
        assert child.ask(name)["status"] == TEMPORARY
    assert time.monotonic() - started < 10 * SLOW


def test_dn04_null_mx(resolver, odd_dns):
    dns = odd_dns({"a.example MX": ["0 ."], "a.example A": ["192.0.2.1"],
                   "b.example MX": ["0 .", "10 mx.b.example"], "mx.b.example A": ["192.0.2.1"]})
    child = resolver(dns.conf())
    assert child.ask("a.example")["status"] == NULL_MX
    assert child.names("b.example") == ["mx.b.example"]


@pytest.mark.parametrize("kind, address", [
    ("A", "127.0.0.1"), ("A", "127.4.5.6"), ("A", "0.0.0.0"), ("A", "169.254.169.254"), ("A", "224.0.0.1"),
    ("AAAA", "::1"), ("AAAA", "::"), ("AAAA", "fe80::1"), ("AAAA", "ff02::1"), ("AAAA", "::ffff:127.0.0.1"),
    ("AAAA", "::ffff:169.254.169.254"), ("AAAA", "64:ff9b::7f00:1")])
def test_dn05_dn06_forbidden_addresses(resolver, odd_dns, kind, address):
    dns = odd_dns({"a.example MX": ["10 mx.a.example"], f"mx.a.example {kind}": [address], "b.example MX":
                   ["5 mx.a.example", "10 mx.b.example"], "mx.b.example A": ["192.0.2.1"]})
    child = resolver(dns.conf())
    assert child.ask("a.example")["status"] == DENIED
    assert child.names("b.example") == ["mx.b.example"]
    answer = child.ask("a.example", server=OPEN)
    assert answer["status"] == OK and answer["hosts"][0][3] == [address], "the other server's list is empty"


def test_dn05_localhost(resolver, odd_dns):
    dns = odd_dns({"a.example MX": ["10 localhost"]})
    child = resolver(dns.conf())
    assert child.ask("a.example")["status"] == DENIED
    assert child.ask("localhost")["status"] == DENIED
    assert child.ask("[127.0.0.1]")["status"] == DENIED
    assert child.ask("[IPv6:::ffff:127.0.0.1]")["status"] == DENIED


def test_dn09_mx_that_is_no_host(resolver, odd_dns):
    bad = ["192.0.2.1", "a_b.example", r"a\032b.example", r"a%b.example", r"\000.example", "-.example"]
    dns = odd_dns({"a.example MX": [f"1 {name}" for name in bad] + ["10 mx.a.example"], "mx.a.example A": ["192.0.2.1"],
                   "b.example MX": [f"1 {name}" for name in bad]})
    child = resolver(dns.conf())
    assert child.names("a.example") == ["mx.a.example"]
    assert child.ask("b.example")["status"] == NO_DOMAIN
    wait_until(lambda: "not a host name" in child.log())
    assert dns.names() & set(bad) == set()


def test_dn10_dn14_large_sets(resolver, odd_dns):
    zone = {"a.example MX": [f"10 h{i}.a.example" for i in range(1000)], "b.example A": [f"10.0.{i // 256}.{i % 256}" for i in range(1000)],
            "b.example AAAA": [f"2001:db8::{i + 1:x}" for i in range(900)]}
    zone["c.example MX"] = [f"{i} {'x' * 50}.{'y' * 50}{i}.c.example" for i in range(20)]
    zone.update({name.split()[1] + " AAAA": [f"2001:db8:1::{i + 1:x}" for i in range(20)] for name in zone["c.example MX"]})
    zone.update({f"h{i}.a.example A": [f"10.1.{i // 256}.{i % 256}"] for i in range(1000)})
    dns = odd_dns(zone)
    child = resolver(dns.conf())
    names = child.names("a.example")
    assert len(names) == len(set(names)) == 20
    assert len(dns.names()) < 30, "only those are looked up"
    addresses = child.ask("b.example")["hosts"][0][3]
    assert len(addresses) == 8 and sum(":" in a for a in addresses) == 4
    hosts = child.ask("c.example")["hosts"]
    assert 10 < len(hosts) < 20 and all(len(host[3]) == 8 for host in hosts), "as many as fit a packet, the best first"
    assert [host[0] for host in hosts] == list(range(len(hosts)))
    seen = {child.ask("a.example")["hosts"][0][2] for _ in range(10)}
    assert len(seen) > 1, "equal preferences are shuffled each time"


def test_dn11_truncated_and_no_tcp(resolver, odd_dns):
    dns = odd_dns({"a.example": "notcp"}, has_tcp=False)
    child = resolver(dns.conf("3s"))
    assert child.ask("a.example")["status"] == TEMPORARY


def test_dn17_killed_while_asking(resolver, odd_dns):
    gate = {"a.example MX": "silent", "mx.a.example A": ["192.0.2.1"]}
    dns = odd_dns(gate)
    child = resolver(dns.conf())
    child.put("a.example")
    wait_until(lambda: dns.count("a.example", "MX") > 0)
    child.kill()
    dns.zone["a.example MX"] = ["10 mx.a.example"]
    child.generation += 1
    child.start()
    assert child.names("a.example") == ["mx.a.example"]


def test_dn18_first_success_after_an_outage(resolver, odd_dns):
    dns = odd_dns({"a.example MX": ["10 mx.a.example"], "mx.a.example A": ["192.0.2.1"]}, is_started=False)
    child = resolver(dns.conf("1s"))
    for i in range(6):
        assert child.ask(f"early{i}.example")["status"] == TEMPORARY
    dns.start()
    assert child.names("a.example") == ["mx.a.example"]


def test_dn20_names_are_absolute(resolver, odd_dns):
    dns = odd_dns({})
    child = resolver(dns.conf())
    for name in ("single", "a.example"):
        assert child.ask(name)["status"] == NO_DOMAIN
    assert asked_names(dns) == {"single", "a.example"}


def test_signed_insecure_and_forged(resolver, nsd):
    dns = nsd(["good MX 10 mx.good", "mx.good A 192.0.2.1", "mixed MX 5 mx.plain.example.", "null MX 0 .", "forged MX 10 mx.good",
               "forgedhost MX 10 host", "host A 192.0.2.77"],
              ["@ MX 10 mx", "mx A 192.0.2.2"], tamper=("MX\t10 mx.good.example.", "MX\t7 mx.good.example."))
    child = resolver(dns.conf())
    assert child.ask("plain.example")["hosts"] == [(10, False, "mx.plain.example", ["192.0.2.2"])]
    answer = child.ask("forgedhost.example")
    assert answer["secure"] and answer["hosts"] == [(10, True, "host.example", ["192.0.2.77"])]
    answer = child.ask("mixed.example")
    assert not answer["secure"] and answer["hosts"] == [(5, False, "mx.plain.example", ["192.0.2.2"])]
    answer = child.ask("forged.example")
    assert answer["status"] == TEMPORARY and "bogus" in answer["text"], answer
    taken = []
    for i in range(4):
        started = time.monotonic()
        answer = child.ask(f"nowhere{i}.example")
        assert answer["status"] == NO_DOMAIN and answer["secure"]
        taken.append(time.monotonic() - started)
    assert min(taken) < 0.9, "a signed denial needs no second question"
    answer = child.ask("null.example")
    assert answer["status"] == NULL_MX and answer["secure"]


def test_forged_address_is_not_used(resolver, nsd):
    dns = nsd(["one MX 10 mx", "two MX 5 mx", "two MX 10 other", "mx A 192.0.2.1", "other A 192.0.2.2"],
              tamper=("A\t192.0.2.1", "A\t192.0.2.9"))
    child = resolver(dns.conf())
    assert child.ask("one.example")["status"] == TEMPORARY
    assert child.names("two.example") == ["other.example"]


def test_relay_hosts(resolver, odd_dns):
    dns = odd_dns({"smtp.example A": ["192.0.2.1"], "smtp.example MX": ["1 elsewhere.example"], "alias.example A": ["CNAME smtp.example."],
                   "alias.example AAAA": []})
    child = resolver(dns.conf())
    assert child.ask("smtp.example", HOST, RELAY)["hosts"] == [(0, False, "smtp.example", ["192.0.2.1"])]
    assert child.ask("alias.example", HOST, RELAY)["hosts"] == [(0, False, "alias.example", ["192.0.2.1"])]
    for literal, address in (("192.0.2.3", "192.0.2.3"), ("2001:db8::3", "2001:db8::3"), ("[192.0.2.3]", "192.0.2.3"),
                             ("127.0.0.1", "127.0.0.1")):
        assert child.ask(literal, HOST, RELAY)["hosts"][0][3] == [address]
    answer = child.ask("localhost", HOST, RELAY)
    assert answer["status"] == OK and "127.0.0.1" in answer["hosts"][0][3], "the hosts file, or RFC 6761"
    assert "localhost" not in dns.names()
    assert child.ask("nowhere.example", HOST, RELAY)["status"] == NO_DOMAIN


def test_literals_and_odd_domains(resolver, odd_dns):
    dns = odd_dns({"xn--bcher-kva.example A": ["192.0.2.1"], "mail.test A": ["192.0.2.2"]})
    child = resolver(dns.conf())
    assert child.ask("[192.0.2.7]")["hosts"] == [(0, False, "[192.0.2.7]", ["192.0.2.7"])]
    assert child.ask("[IPv6:2001:db8::7]")["hosts"][0][3] == ["2001:db8::7"]
    assert child.ask("bücher.example")["hosts"] == [(0, False, "xn--bcher-kva.example", ["192.0.2.1"])]
    assert child.ask("mail.test")["hosts"][0][3] == ["192.0.2.2"], "private names are the server's business"
    for name in ("", "a b", "192.0.2.7", "[192.0.2]", "[192.0.2.7", "a..b", "x" * 64 + ".example", "\x7f.example", "a\nb.example"):
        assert child.ask(name)["status"] == NO_DOMAIN, name
    assert child.ask("x.invalid")["status"] == NO_DOMAIN
    assert "x.invalid" not in dns.names()


def test_indices_of_another_configuration(resolver, odd_dns):
    child = resolver(odd_dns({}).conf())
    assert child.ask("a.example", server=99)["status"] == TEMPORARY
    assert child.ask("a.example", server=RELAY)["status"] == TEMPORARY, "a relay's deny list is not a direct server's"
    assert child.ask("a.example", kind=9)["status"] == TEMPORARY


def test_same_name_is_looked_up_once(resolver, odd_dns):
    dns = odd_dns({"a.example MX": ["10 mx.a.example"], "mx.a.example A": ["192.0.2.1"]})
    child = resolver(dns.conf())
    wanted = {child.put("a.example") for _ in range(200)}
    assert {child.get()["request"] for _ in wanted} == wanted
    assert dns.count("a.example", "MX") == 1


def test_many_at_a_time_with_silent_ones(resolver, odd_dns):
    """Each gets its answer while the silent ones stay asked. A loaded machine may lose a packet or be late: what came as
    temporary is asked again, as the scheduler does; a name that answers is never final in any other way."""
    zone = {f"d{i}.example A": [f"10.0.{i // 250}.{i % 250 + 1}"] for i in range(1500)}
    zone.update({f"s{i}.example": "silent" for i in range(400)})
    child = resolver(odd_dns(zone).conf("3s"))
    asked = {child.put(name): name for name in [f"s{i}.example" for i in range(400)] + [f"d{i}.example" for i in range(1500)]}
    waiting = set(asked.values())
    while waiting:
        answer = child.get(timeout=30)
        name = asked.pop(answer["request"])
        if answer["status"] == TEMPORARY:
            asked[child.put(name)] = name
        assert answer["status"] == TEMPORARY or (name[0] == "d" and answer["status"] == OK), (name, answer)
        if answer["status"] == (OK if name[0] == "d" else TEMPORARY):
            waiting.discard(name)
    if not SANITIZED:                           # which keeps what was freed
        assert int(re.search(r"VmRSS:\s+(\d+) kB", open(f"/proc/{child.pid}/status").read())[1]) < 60000


def test_successor_of_the_scheduler(resolver, odd_dns):
    """Its first question may come before master's word of it; the answer goes to the one who asked."""
    dns = odd_dns({"a.example": "silent", "b.example A": ["192.0.2.1"]})
    child = resolver(dns.conf("2s"))
    child.put("a.example")
    child.us += 1
    child.put("b.example")
    child.put("a.example")
    child.tell_peer(PEER_DEAD, generation=child.us - 1)
    child.tell_peer(PEER_ALIVE)
    for _ in range(2):
        name, answer, _, addressee = child.receive_all()
        assert (name, addressee) == ("RESOLVED", child.us)
        assert answer["request"] in (2, 3)


def test_malformed_packets_are_dropped(resolver, odd_dns):
    child = resolver(odd_dns({"a.example A": ["192.0.2.1"]}).conf())
    good = encode("RESOLVE", child.us, child.generation, request=1, kind=MX, server=DIRECT, name="a.example")
    for packet in (b"", b"x", good[:-1], good + b"x", b"\0" * 4096, encode("REPORT_ACK", child.us, child.generation, triples=[1, 2, 3])):
        if packet:
            child.send_raw(packet)
    assert child.ask("a.example")["status"] == OK


def test_op13_trust_anchor_that_is_not_there(resolver, tmp_path):
    with pytest.raises(AssertionError, match="ended with 78"):
        resolver(f'dns {{ servers = {{ "127.0.0.1@9" }} trust-anchor-file = "{tmp_path}/none" }}')
    (tmp_path / "junk").write_text("junk junk junk\n")
    with pytest.raises(AssertionError, match="ended with 78"):
        resolver(f'dns {{ servers = {{ "127.0.0.1@9" }} trust-anchor-file = "{tmp_path}/junk" }}')


def test_ends_when_told(resolver, odd_dns):
    child = resolver(odd_dns({"a.example": "silent"}).conf())
    child.put("a.example")
    child.signal(15)
    assert child.wait() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a mount namespace")
def test_servers_and_hosts_of_the_system(resolver, odd_dns, tmp_path):
    dns = odd_dns({"a.example A": ["192.0.2.1"]}, port=53)
    (tmp_path / "resolv.conf").write_text(f"# nameserver 192.0.2.53\nsearch evil.example\n  nameserver\t{dns.address}  \noptions rotate\n")
    (tmp_path / "hosts").write_text("192.0.2.9 localhost LOCALHOST\n2001:db8::9 localhost # comment\n")
    mounts = "".join(f"mount --bind {tmp_path}/{name} /etc/{name} && " for name in ("resolv.conf", "hosts"))
    child = resolver("", wrapper=("unshare", "-m", "sh", "-ec", mounts + 'exec "$@"', "sh"))
    assert child.ask("a.example")["hosts"] == [(0, False, "a.example", ["192.0.2.1"])]
    assert child.ask("nowhere")["status"] == NO_DOMAIN
    assert asked_names(dns) == {"a.example", "nowhere"}, "search domains play no part"
    assert child.ask("localhost", HOST, RELAY)["hosts"][0][3] == ["192.0.2.9", "192.0.2.9", "2001:db8::9"]
    assert child.ask("localhost")["status"] == DENIED, "the hosts file is for relays only"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give up")
def test_in_the_jail(resolver, nsd):
    dns = nsd(["@ MX 10 mx", "mx A 192.0.2.1"])
    nobody = pwd.getpwnam("nobody")
    child = resolver(dns.conf(), identity=(nobody.pw_uid, nobody.pw_gid))
    assert child.ask("example")["secure"]
    assert child.ask("nowhere.plain.example")["status"] == NO_DOMAIN
    assert child.ask("localhost", HOST, RELAY)["status"] == OK
    status = open(f"/proc/{child.pid}/status").read()
    assert SANITIZED or re.search(r"^Seccomp:\t2$", status, re.M)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.M)
    assert re.search(rf"^Uid:\t{nobody.pw_uid}\t{nobody.pw_uid}\t{nobody.pw_uid}\t", status, re.M)
    assert SANITIZED or os.readlink(f"/proc/{child.pid}/root").endswith("/run/empty")
