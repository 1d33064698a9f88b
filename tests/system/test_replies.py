"""What servers mean by what they say: rules about replies at work (postern-replies(5))."""
import re
import threading
import time

import pytest
from fake_smtp import Server
from harness import wait_until

RETRY = 'retry { after = { "1h" } }\n'
SITES = [f"d{i}.example" for i in range(4)]


@pytest.fixture
def fake():
    servers = []

    def make(script, **options):
        servers.append(Server(script, **options))
        return servers[-1]
    yield make
    for server in servers:
        server.close()


def letter(i=0, to="b@there.example"):
    return f"From: a@here.example\nTo: {to}\nSubject: {i}\nMessage-ID: <{i}@here.example>\n\nhello\n"


def relay(server, name="out", more=""):
    return f'server "{name}" {{ host = "{server.address}" port = {server.port} tls = none {more} }}\n'


def rules(mta, text):
    """A file of rules beside the configuration, in the place of the shipped ones."""
    (mta.dir / "replies.conf").write_text(text + "\n" if "-> sit still" in text or text.startswith("server out code 450") else f"ignore-shipped-rules\n{text}\n")
    return 'reply-rules = "replies.conf"\n'


def answers(**replies):
    """A server that answers some commands with replies of its own."""
    def script(s):
        s.say("220 fake.example ESMTP")
        s.serve(**{name: (lambda *_, reply=reply: reply() if callable(reply) else reply) for name, reply in replies.items()})
    return script


def server_of(mta, name="out"):
    return next(server for server in mta.status()["servers"] if server["name"] == name)


def test_quota_pauses_the_server_and_bounces_nothing(mta, fake):
    """550 5.4.5: a permanent code that speaks of the account. Mail waits, is told so, and the pause outlasts a restart."""
    full = threading.Event()
    full.set()
    server = fake(answers(mail=lambda: "550 5.4.5 Daily user sending quota exceeded." if full.is_set() else None))
    mta.start(RETRY + rules(mta, 'code 550 enhanced 5.4.5 -> server pause 12s\n') + relay(server))
    mta.drop_many(5, letter)
    mta.wait_log(r"server out is paused until .*quota exceeded")
    wait_until(lambda: server_of(mta)["state"] == "paused", what="status to say paused")
    assert "quota exceeded" in server_of(mta)["reason"]
    wait_until(lambda: [m for m in mta.queue() if "is paused until" in m["recipients"][0].get("delay_reason", "")])
    mta.restart()
    assert server_of(mta)["state"] == "paused", "the pause did not outlast the restart"
    full.clear()
    assert len(mta.queue()) == 5
    server.wait(5, timeout=40)
    mta.wait_empty()
    assert not mta.grep("status=bounced") and len(mta.grep("is paused until")) >= 1
    assert all("attempt=1" in line for line in mta.grep("status=sent")), "waiting for a paused server counted as an attempt"
    assert len(mta.grep("the pause is over")) == 1 and server_of(mta)["state"] == "up"


def test_quota_sends_mail_to_the_next_server(mta, fake):
    """The next server takes it in the same attempt, and what follows does not even try the first."""
    first = fake(answers(mail="550 5.4.5 Daily user sending quota exceeded."))
    second = fake(answers())
    mta.start(RETRY + rules(mta, 'code 550 enhanced 5.4.5 -> server pause 10m\n') + relay(first, "first") + relay(second, "second"))
    mta.drop(letter(0))
    second.wait(1)
    tried = len(first.sessions)
    mta.drop_many(5, lambda i: letter(i + 1))
    second.wait(6)
    assert len(first.sessions) == tried
    assert len(mta.grep("is paused until")) == 1, "one alert line"
    assert not mta.grep("status=(bounced|deferred)")


def test_quota_at_the_greeting_counts_too(mta, fake):
    def script(s):
        s.say("421 4.7.0 hourly sending quota exceeded")
        s.close()
    first, second = fake(script), fake(answers())
    mta.start(RETRY + relay(first, "first") + relay(second, "second"))
    mta.drop(letter())
    second.wait(1)
    assert server_of(mta, "first")["state"] == "paused"


def test_site_pause_then_one_connection_at_a_time(mta, fake):
    """421 4.7.28: silence for the time told, then one connection, then more, one by one."""
    state = {"slow": None, "open": 0, "peaks": []}
    lock = threading.Lock()

    def script(s):
        with lock:
            state["open"] += 1
            state["peaks"].append((time.monotonic(), state["open"]))

        def dot(_):
            s.pause(0.02)
            if state["slow"] is None:
                state["slow"] = time.monotonic()
            return "421 4.7.28 unusual rate of mail" if time.monotonic() < state["slow"] + 0.3 else None
        try:
            s.say("220 fake.example ESMTP")
            s.serve(dot=dot)
        finally:
            with lock:
                state["open"] -= 1
    server = fake(script)
    mta.start('retry { after = { "5s" } }\n' + rules(mta, 'enhanced 4.7.28 -> site pause 3s\n') + relay(server))
    mta.drop_many(60, letter)
    server.wait(60, timeout=60)
    mta.wait_empty()
    after = [(t - state["slow"], n) for t, n in state["peaks"] if t > state["slow"] + 1]
    assert after[0][0] > 2.5, after[:3]
    assert after[0][1] == 1 and all(b[1] <= a[1] + 1 for a, b in zip(after, after[1:])), after
    assert len(mta.grep("is left alone for 3s")) == 1 and not mta.grep("status=bounced")


@pytest.mark.parametrize("reply", ["450 4.2.0 Greylisted, see http://postgrey.schweikert.ch/", "451 4.7.1 Greylisting in action"])
def test_greylisting_waits_greylist_after(mta, fake, reply):
    seen = []

    def script(s):
        def rcpt(_):
            seen.append(time.monotonic())
            return reply if seen[-1] < seen[0] + 2 else None
        s.say("220 fake.example ESMTP")
        s.serve(rcpt=rcpt)
    server = fake(script)
    mta.start('retry { after = { "1h" } greylist-after = "3s" }\n' + relay(server))
    mta.drop(letter())
    server.wait(1)
    assert 2.5 < seen[1] - seen[0] < 60 and len(mta.grep("status=deferred")) == 1


def test_reconnect_is_no_attempt(mta, fake):
    """A server that takes three messages a connection and then says so."""
    def script(s):
        taken = []

        def mail(_):
            if len(taken) >= 3:
                return "421 4.7.0 too many messages in this session"
            taken.append(1)
            return None
        s.say("220 fake.example ESMTP")
        s.serve(mail=mail)
    server = fake(script)
    mta.start(RETRY + relay(server, more="max-connections = 1"))
    mta.drop_many(10, letter)
    server.wait(10)
    mta.wait_empty()
    assert all("attempt=1" in line for line in mta.grep("status=sent"))
    assert len(server.sessions) >= 4


def fake_for_two(fake, reply):
    """A server that tells the third connection at a time so; and what it has seen."""
    state = {"open": 0, "refused": 0}
    lock = threading.Lock()

    def script(s):
        with lock:
            state["open"] += 1
            is_too_many = state["open"] > 2
        try:
            if is_too_many:
                state["refused"] += 1
                s.say(reply)
                return
            s.say("220 fake.example ESMTP")
            s.serve(dot=lambda _: s.pause(0.05))
        finally:
            with lock:
                state["open"] -= 1
    return fake(script), state


def test_too_many_connections_means_fewer(mta, fake):
    server, state = fake_for_two(fake, "421 4.7.0 Error: too many connections from 192.0.2.9")
    mta.start(RETRY + relay(server))
    mta.drop_many(40, letter)
    server.wait(40)
    mta.wait_empty()
    assert not mta.grep("status=(deferred|bounced)"), "not an attempt"
    assert state["refused"] < 10, state


def test_server_fewer_is_about_all_sites_of_a_direct_server(mta, fake, zone):
    """Four sites at an address that takes two connections: each has one at first."""
    server, state = fake_for_two(fake, "421 4.3.2 enough connections")
    mta.start(RETRY + zone({f"{name} MX": [f"10 mx.{name}"] for name in SITES} | {f"mx.{name} A": [server.address] for name in SITES}) +
              rules(mta, 'code 421 text "enough connections" -> server fewer\n') +
              'server "direct" { method = direct port = 2525 tls = none deny-addresses = {} max-connections-per-destination = 1 }\n')
    for i in range(10):
        for name in SITES:
            mta.drop(letter(f"{i}{name}", f"b@{name}"))
    server.wait(40)
    mta.wait_empty()
    assert not mta.grep("status=(deferred|bounced)"), "not an attempt"
    assert state["refused"] < 10, state


def test_relaying_denied_by_the_relay_is_not_the_recipients_fault(mta, fake):
    """TL18: the relay wants a login. Nothing bounces, the server pauses, the next one sends."""
    first, second = fake(answers(rcpt="550 relaying denied")), fake(answers())
    mta.start(RETRY + relay(first, "first") + relay(second, "second"))
    mta.drop(letter())
    second.wait(1)
    assert server_of(mta, "first")["state"] == "paused" and not mta.grep("status=bounced")


@pytest.mark.parametrize("rule, bounced", [
    ('code 450 -> recipient bounce', True), ('code 450 -> recipient retry 2s', False), ('code 450 -> recipient next', False)])
def test_recipient_rules(mta, fake, rule, bounced):
    said = []

    def rcpt():
        said.append(1)
        return "450 4.2.1 hm" if len(said) == 1 else None
    server = fake(answers(rcpt=rcpt))
    mta.start(RETRY + rules(mta, rule + "\n") + relay(server))
    mta.drop("X-Sender: <>\n" + letter())
    if bounced:
        mta.wait_log("status=bounced")
    elif "2s" in rule:
        server.wait(1)
    else:
        mta.wait_log("status=deferred")
        assert mta.queue()[0]["attempts"] == 1


def test_a_permanent_code_may_be_made_temporary(mta, fake):
    said = []

    def rcpt():
        said.append(1)
        return "550 5.1.1 come back later" if len(said) == 1 else None
    server = fake(answers(rcpt=rcpt))
    mta.start(RETRY + rules(mta, 'code 550 text "come back" -> recipient retry 1s\n') + relay(server))
    mta.drop(letter())
    server.wait(1)
    assert not mta.grep("status=bounced")


def test_check_reads_the_rules(mta, fake):
    server = fake(answers())
    mta.configure(rules(mta, "code 45 -> recipient retry\n\ncode 450 -> sit still\n") + relay(server))
    done = mta.postern("check")
    assert done.returncode == 78
    lines = done.stderr.splitlines()
    assert [re.match(r"postern: .*/replies\.conf:(\d+): ", line)[1] for line in lines] == ["1", "3"], done.stderr
    rules(mta, "server out code 450 -> recipient retry\nserver other -> recipient next\n")
    assert 'replies.conf:2: server: "other" is not right' in mta.postern("check").stderr
    rules(mta, "server out code 450 -> recipient retry\n")
    done = mta.postern("check")
    assert done.returncode == 0 and not done.stderr
