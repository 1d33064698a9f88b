"""DNS that is away, lies, kills or changes, seen from the mail: cases DN15 to DN19 with the whole of Postern."""
import signal

import harness
import pytest
from fake_dns import FakeDns
from fake_smtp import free_address
from harness import wait_until
from test_deliver import letter

DIRECT = 'retry { after = { "1h" } }\nserver "out" { method = direct port = 2525 deny-addresses = {} tls = none }\n'


@pytest.fixture
def names(folder):
    """names(zone, ...): (name server, its dns {} section with a short time-out)."""
    made = []

    def start(zone, **options):
        made.append(FakeDns(zone, **options))
        return made[-1], harness.dns_section(made[-1], folder).replace(" trust", ' timeout = "1s" trust')

    yield start
    for one in made:
        one.stop()


def domains(count, address):
    zone = {f"d{i}.example MX": ["10 mx.example"] for i in range(count)}
    return {**zone, "mx.example A": [address]}


def test_dn15_an_address_that_changes(mta, names, server):
    """The first attempt meets the old one; the next, when its time to live is over, does not."""
    there = server()
    dns, section = names(domains(1, free_address()), ttl=1)
    mta.start(section + DIRECT.replace("1h", "5s"))
    mta.drop(letter(to="b@d0.example"))
    mta.wait_log("status=deferred .*Connection refused")
    dns.zone.update(domains(1, there.address))
    there.wait(1)
    assert len(mta.grep("status=deferred")) == 1


def test_dn16_an_answer_that_kills(mta, names, server):
    """Each resolver that is asked for one name dies. That mail waits, no attempt of it is counted; the rest goes."""
    there = server()
    dns, section = names(domains(10, there.address))
    dns.zone["bomb.example"] = lambda query: (mta.kill("resolver", signal.SIGXCPU), "silent")[1]
    mta.start(section + DIRECT)
    mta.drop(letter(to="b@bomb.example", ident="bomb"))
    line, = mta.wait_log("to=<b@bomb.example>.*status=deferred")
    assert "the resolver dies of it" in line and dns.count("bomb.example", "MX") == 3
    for i in range(10):
        mta.drop(letter(to=f"b@d{i}.example", ident=str(i)))
    there.wait(10)
    waiting, = wait_until(lambda: len(queue := mta.queue()) == 1 and queue)
    assert waiting["attempts"] == 0 and dns.count("bomb.example", "MX") == 3


def test_dn18_no_dns_at_first(mta, names, server):
    """All mail waits, nothing bounces, no attempt is counted; the first answer sets all of it free."""
    there = server()
    dns, section = names(domains(9, there.address), is_started=False)
    mta.start(section + DIRECT.replace("} }", "} max-retries = 1 }"))
    for i in range(8):
        mta.drop(letter(to=f"b@d{i}.example", ident=str(i)))
    mta.wait_log("status=deferred .*DNS lookup", times=8)
    mta.postern("retry", "--all", check=True)
    mta.wait_log("status=deferred .*DNS lookup", times=16)
    assert [message["attempts"] for message in mta.queue()] == [0] * 8
    dns.start()
    mta.drop(letter(to="b@d8.example", ident="late"))
    there.wait(9)
    mta.wait_empty()
    assert not mta.grep("status=bounced")


def test_broken_domains_are_no_outage(mta, names, server):
    """They are tried again when DNS seems to be back, but not for ever whenever another domain is found."""
    there = server()
    dns, section = names({**domains(12, there.address), **{f"broken{i}.example": "servfail" for i in range(4)}})
    mta.start(section + DIRECT)
    for i in range(4):
        mta.drop(letter(to=f"b@broken{i}.example", ident=f"broken{i}"))
    mta.wait_log("status=deferred", times=4)
    for i in range(12):
        mta.drop(letter(to=f"b@d{i}.example", ident=str(i)))
        there.wait(i + 1)
        wait_until(lambda: not any("queue_name" in m and m["queue_name"] == "active" for m in mta.queue()))
    assert 4 <= len(mta.grep("status=deferred")) <= 4 * 3, len(mta.grep("status=deferred"))


def test_dn19_name_servers_that_find_nothing(mta, names, server):
    """A captive portal: one alert, no bounce; one domain found again, and all goes. What really is not there bounces then."""
    there = server()
    dns, section = names({"*": "nxdomain"})
    mta.start(section + DIRECT)
    for i in range(30):
        mta.drop(letter(to=f"b@d{i}.example", ident=str(i)))
    mta.drop(letter(to="b@gone.example", ident="gone"))
    mta.wait_log("status=deferred .*not believed: no such domain", times=31)
    assert len(mta.grep("warning: the DNS servers find none of 20 domains in a row")) == 1
    assert not mta.grep("status=bounced") and [message["attempts"] for message in mta.queue()] == [0] * 31
    dns.zone = domains(31, there.address)
    mta.drop(letter(to="b@d30.example", ident="late"))
    there.wait(31)
    mta.wait_log("find domains again")
    line, = mta.wait_log("status=bounced")
    assert "gone.example" in line
