"""A site's best MX host is up and takes no mail: the next attempt goes to the next one (RFC 5321 5.1)."""
import pytest

from test_deliver import letter

RETRY = 'retry { after = { "1s" } greylist-after = "1s" }\n'


def site(zone, *hosts):
    records = {"there.example MX": [f"{10 * (n + 1)} mx{n + 1}.there.example" for n in range(len(hosts))]}
    records.update({f"mx{n + 1}.there.example A": [host.address] for n, host in enumerate(hosts)})
    return RETRY + zone(records) + 'server "direct" { method = direct port = 2525 tls = none deny-addresses = {} }\n'


def says(point, reply):
    """To this command; without a reply it hangs up."""
    def script(s):
        s.say("220 hi")
        while True:
            verb = s.line().upper()[:4]
            if verb == point and not reply:
                return
            s.say(reply if verb == point else {"EHLO": "250 mx", "QUIT": "221 bye"}.get(verb, "250 ok"))
            if verb == "QUIT" or reply.startswith("421") and verb == point:
                return
    return script


@pytest.mark.parametrize("point, reply", [("MAIL", ""), ("RCPT", ""), ("MAIL", "421 4.3.2 not now"), ("MAIL", "451 4.3.0 broken"),
                                          ("RCPT", "451 broken"), ("DATA", "451 4.3.5 misconfigured")])
def test_a_host_that_takes_no_mail(mta, server, zone, point, reply):
    """One that says "later" is asked once more before the next one is."""
    bad, good = server(says(point, reply)), server()
    mta.start(site(zone, bad, good))
    mta.drop(letter())
    good.wait(1)
    mta.wait_empty()
    deferred = len(mta.grep("status=deferred"))
    assert len(bad.sessions) == deferred and deferred in ([2, 3] if reply[:2] == "45" else [1])
    mta.drop(letter(ident="2"))
    good.wait(2)
    mta.wait_empty()
    assert len(bad.sessions) == deferred, "the second one goes where the first one went"


def test_round_the_hosts(mta, server, zone):
    """After the last comes the first again."""
    calls = []

    def better_the_second_time(s):
        calls.append(s)
        if len(calls) == 1:
            return says("MAIL", "")(s)
        s.say("220 hi")
        s.serve()
    best, worse = server(better_the_second_time), server(says("MAIL", ""))
    mta.start(site(zone, best, worse))
    mta.drop(letter())
    best.wait(1)
    assert len(worse.sessions) == 1 and len(best.sessions) == 2


@pytest.mark.parametrize("reply, count", [("452 4.2.2 mailbox full", 3), ("451 4.7.1 greylisted", 3)])
def test_what_speaks_of_the_recipient_stays_with_the_best_host(mta, server, zone, reply, count):
    best, next_one = server(says("RCPT", reply)), server()
    mta.start(site(zone, best, next_one))
    mta.drop(letter())
    mta.wait_log("status=deferred", count)
    assert best.sessions and not next_one.sessions
