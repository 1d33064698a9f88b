"""smtpout against servers that misbehave: cases HS and TL, each with a real connection. smtpout runs alone; this side is
its scheduler (smtpchild.py). What needs no connection is in tests/unit/smtpout_engine_test.c, under the same names."""
import email
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest

from childproc import PEER_ALIVE, PEER_DEAD
from fake_smtp import Server, breaks_tls, free_address, ordinary
from harness import SLOW, Sink, wait_until
from smtpchild import PASSED_ON, Smtpout, server_key

BODY = b"Subject: x\r\n\r\nhello\r\n"


def section(port=2525, name="out", more="tls = none"):
    return f'server "{name}" {{ method = relay host = "fake.example" port = {port} {more} }}\n'


@pytest.fixture
def smtpout(tmp_path):
    running = []

    def start(servers=None, **options):
        child = Smtpout(tmp_path, servers or section(), **options)
        running.append(child)
        return child

    yield start
    for child in running:
        child.__exit__()
        assert not re.search(r"\bBUG\b|Sanitizer|runtime error|malformed packet", child.log()), child.log()


@pytest.fixture
def server():
    running = []

    def start(script=ordinary, **options):
        running.append(Server(script, **options))
        return running[-1]

    yield start
    for one in running:
        one.close()


def one(out, server, rcpts=1, body=BODY, **options):
    """Sends one message; returns the outcomes by recipient and SESSION_DOWN."""
    number = out.queue(body, [f"r{i}@there.example" for i in range(rcpts)])
    return out.deliver(number, [("mx.there.example", [server.address])], range(rcpts), **options)


def verdicts(outcome):
    return [outcome[i]["verdict"] for i in sorted(outcome)]


# --- what goes over the wire

@pytest.mark.parametrize("extensions", [["PIPELINING", "SIZE 1000000000", "8BITMIME"], ["8BITMIME"], []])
def test_commands_and_log_line(smtpout, server, extensions):
    def script(s):
        s.say("220 fake.example")
        s.serve(extensions=extensions)
    srv = server(script)
    out = smtpout()
    outcome, down = one(out, srv, rcpts=3)
    assert verdicts(outcome) == ["delivered"] * 3 and down["cause"] == "none"
    message = srv.wait(1)[0]
    assert message.rcpts == [f"<r{i}@there.example>" for i in range(3)]
    assert message.mail == "<a@here.example>" + (f" SIZE={len(BODY)}" if len(extensions) > 2 else "")
    assert message.data == BODY
    report = outcome[0]
    assert (report["text"], report["dsn"], report["code"], report["was_seen"]) == ("250 2.0.0 taken", "2.0.0", 250, 1)
    line = (r"postern/smtpout\[\d+\]: [0-9A-V]{13}: to=<r1@there.example>, relay=mx\.there\.example\[127\.[\d.]+\]:2525, "
            r"delay=[\d.]+, delays=0\.2/0\.98/[\d.]+/[\d.]+, dsn=2\.0\.0, status=sent \(250 2\.0\.0 taken\), "
            r"server=out attempt=1\n")
    wait_until(lambda: re.search(line, out.log()), what=f"{line}\nin {out.log()}")


BODIES = [b"", b".", b".\r\n", b"..\r\n", b"a\r\n.\r\nb\r\n", b"\r\n.\r\n", b".\r\n" * 50000, b"x" * 70000 + b"\r\n.end",
          b"a\r\n" + b"." * 998 + b"\r\n", (b"y" * 63 + b"\r\n") * 2000 + b".\r\n", b"no line end"]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_hs39_exactly_one_end_of_data(smtpout, server, body):
    srv = server()
    out = smtpout()
    outcome, _ = one(out, srv, body=body)
    assert verdicts(outcome) == ["delivered"]
    assert srv.wait(1)[0].data == body + (b"" if body.endswith(b"\r\n") or not body else b"\r\n")
    raw = srv.sessions[0].received.split(b"DATA\r\n", 1)[1]
    assert len(re.findall(rb"(?:^|\r\n)\.\r\n", raw)) == 1


@pytest.mark.parametrize("dots", [False, True])
def test_large_message_byte_for_byte(smtpout, server, dots):
    body = b"".join(b"%s%07d %s\r\n" % (b"." if dots and i % 3 == 0 else b"", i, b"z" * 60) for i in range(120000))
    srv = server()
    out = smtpout()
    outcome, _ = one(out, srv, body=body, timeout=30)
    assert verdicts(outcome) == ["delivered"] and srv.wait(1)[0].data == body


def test_next_envelope_travels_with_the_dot(smtpout, server):
    """One write per flight: the next transaction's commands are in the same segment as the final dot."""
    reads, given = [], threading.Event()

    def script(s):
        s.say("220 hi")
        s.ehlo()
        for _ in range(2):
            while b"DATA\r\n" not in s.buffer:
                s.read()
            s.buffer = s.buffer.split(b"DATA\r\n", 1)[1]
            assert given.wait(20)
            s.say("250 ok\n250 ok\n354 go")
            while b"\r\n.\r\n" not in s.buffer:
                s.read()
            reads.append(s.buffer)
            s.buffer = s.buffer.split(b"\r\n.\r\n", 1)[1]
            s.say("250 taken")
        s.serve()
    srv = server(script)
    out = smtpout()
    session = out.connect([("mx", [srv.address])])
    numbers = [out.queue(BODY, ["b@there.example"]) for _ in range(2)]
    for number in numbers:
        out.give(session, number)
    given.set()
    reports = [out.until("REPORT") for _ in numbers]
    assert [r["queue_id"] for r in reports] == numbers and {r["verdict"] for r in reports} == {"delivered"}
    assert reads[0].split(b"\r\n.\r\n", 1)[1].startswith(b"MAIL FROM:<a@here.example>") and reads[0].endswith(b"DATA\r\n")
    out.hang_up(session)
    assert out.until("SESSION_DOWN")["cause"] == "none"


def test_hs24_a_verdict_for_each_recipient(smtpout, server):
    replies = {"r1": "450 4.2.1 later", "r2": "550 5.1.1 never", "r3": "550 5.1.1 never"}

    def script(s):
        s.say("220 hi")
        s.serve(rcpt=lambda a: replies.get(a[1:].split("@")[0]))
    out = smtpout()
    outcome, _ = one(out, server(script), rcpts=100)
    assert verdicts(outcome) == ["delivered", "temporary", "permanent", "permanent"] + ["delivered"] * 96
    assert outcome[2] is outcome[3], "equal outcomes are one report"
    assert re.fullmatch(r"host mx\.there\.example\[127[\d.]+\] said: 550 5\.1\.1 never \(in reply to RCPT TO command\)", outcome[2]["text"])


def test_hs06_strange_bytes_are_escaped(smtpout, server):
    def script(s):
        s.say("220 hi")
        s.ehlo()
        s.expect("MAIL")
        s.send(b"550 5.0.0 \x1b[1m\x00\xff\\ \xc3\xa4\r\n503 x\r\n503 x\r\n")
        s.read()
    outcome, _ = one(smtpout(), server(script))
    assert "550 5.0.0 \\033[1m\\000\\377\\\\ ä" in outcome[0]["text"] and outcome[0]["verdict"] == "permanent"


# --- connecting

def test_next_host_when_the_first_refuses(smtpout, server):
    srv = server()
    out = smtpout()
    number = out.queue(BODY, ["b@there.example"])
    outcome, down = out.deliver(number, [("dead.example", [free_address()]), ("mx.example", [srv.address])])
    assert verdicts(outcome) == ["delivered"] and outcome[0]["relay"] == f"mx.example[{srv.address}]:2525"


def test_ipv6_refused_goes_to_ipv4_at_once(smtpout, server):
    srv = server()
    out = smtpout()
    started = time.monotonic()
    outcome, _ = out.deliver(out.queue(BODY, ["b@there.example"]), [("mx.example", ["::1", srv.address])])
    assert verdicts(outcome) == ["delivered"] and time.monotonic() - started < 15 * SLOW


@pytest.fixture
def black_hole():
    """An address that answers no SYN: its listener's queue is full."""
    listener = socket.socket()
    address = free_address()
    listener.bind((address, 2525))
    listener.listen(0)
    fillers = []
    for _ in range(3):
        fillers.append(socket.socket())
        fillers[-1].setblocking(False)
        fillers[-1].connect_ex((address, 2525))
    yield address
    for sock in (listener, *fillers):
        sock.close()


def test_a_silent_address_costs_a_head_start_only(smtpout, server, black_hole):
    srv = server()
    out = smtpout()
    started = time.monotonic()
    outcome, _ = out.deliver(out.queue(BODY, ["b@there.example"]), [("mx.example", [black_hole, srv.address])])
    took = time.monotonic() - started
    assert verdicts(outcome) == ["delivered"] and 0.2 < took < 15 * SLOW


def test_connect_timeout_then_the_next_host(smtpout, server, black_hole):
    srv = server()
    out = smtpout(section(more='tls = none connect-timeout = "1s"'))
    hosts = [("silent.example", [black_hole]), ("mx.example", [srv.address])]
    outcome, _ = out.deliver(out.queue(BODY, ["b@there.example"]), hosts)
    assert verdicts(outcome) == ["delivered"]
    _, down = out.deliver(out.queue(BODY, ["b@there.example"]), hosts[:1])
    assert down["cause"] == "connect" and down["text"] == f"connect to silent.example[{black_hole}]:2525: Connection timed out"


def test_every_host_refuses(smtpout):
    address = free_address()
    out = smtpout()
    outcome, down = out.deliver(out.queue(BODY, ["b@there.example"]), [("mx.example", [address])])
    assert verdicts(outcome) == ["unsent"] and down["cause"] == "connect" and down["dsn"] == "4.4.1"
    assert down["text"] == f"connect to mx.example[{address}]:2525: Connection refused"


@pytest.mark.parametrize("deny", ["127.0.0.0/8", "::ffff:0:0/96"])
def test_dn06_denied_addresses_are_not_connected_to(smtpout, server, deny):
    srv = server()
    address = srv.address if deny[0] == "1" else f"::ffff:{srv.address}"
    out = smtpout(section(more=f'tls = none deny-addresses = {{ "{deny}" }}'))
    _, down = out.deliver(out.queue(BODY, ["b@there.example"]), [("mx.example", [address])])
    assert down["cause"] == "connect" and "deny-addresses" in down["text"] and not srv.sessions


def test_dn07_a_mapped_address_is_denied_by_its_ipv4_block(smtpout, server):
    srv = server()
    out = smtpout(section(more='tls = none deny-addresses = { "127.0.0.0/8" }'))
    _, down = out.deliver(out.queue(BODY, ["b@there.example"]), [("mx.example", [f"::ffff:{srv.address}"])])
    assert down["cause"] == "connect" and not srv.sessions


def test_source_address(smtpout, server):
    srv = server()
    mine = free_address()
    out = smtpout(section(more=f'tls = none source-addresses = {{ "::1", "{mine}" }}'))
    assert verdicts(one(out, srv)[0]) == ["delivered"] and srv.sessions[0].peer[0] == mine


def test_hs29_554_greeting_tries_the_next_host(smtpout, server):
    bad, good = server(lambda s: s.say("554 5.7.1 go away")), server()
    out = smtpout()
    hosts = [("bad.example", [bad.address]), ("good.example", [good.address])]
    outcome, _ = out.deliver(out.queue(BODY, ["b@there.example"]), hosts)
    assert verdicts(outcome) == ["delivered"]


@pytest.mark.parametrize("more", [b"421 4.3.2 full\r\n", b"250 again\r\n"], ids=["421", "stray"])
def test_who_takes_it_back_in_one_breath_leads_to_the_next_host(smtpout, server, more):
    """All of it comes with one packet: that mail could go was never true."""
    def talk(s):
        s.say("220 hi")
        s.expect("EHLO")
        s.send(b"250 mx\r\n" + more)
    bad, good = server(talk), server()
    out = smtpout()
    hosts = [("bad.example", [bad.address]), ("good.example", [good.address])]
    outcome, _ = out.deliver(out.queue(BODY, ["b@there.example"]), hosts)
    assert verdicts(outcome) == ["delivered"]


def test_hs29_of_several_greetings_the_temporary_one_counts(smtpout, server):
    busy, never = server(lambda s: s.say("421 4.3.2 busy")), server(lambda s: s.say("554 5.7.1 go away"))
    out = smtpout()
    hosts = [("busy.example", [busy.address]), ("never.example", [never.address])]
    outcome, down = out.deliver(out.queue(BODY, ["b@there.example"]), hosts)
    assert (down["cause"], down["code"]) == ("greeting", 421) and verdicts(outcome) == ["unsent"]
    hosts = [("never.example", [never.address])]
    assert out.deliver(out.queue(BODY, ["b@there.example"]), hosts)[1]["code"] == 554


def test_hs29_no_greeting_hides_that_another_host_may_do_better(smtpout, server):
    """No TLS is no refusal of mail, whatever the code: it would have bounced."""
    clear, never = server(lambda s: (s.say("220 hi"), s.serve(extensions=["STARTTLS"]))), server(lambda s: s.say("554 5.7.1 go away"))
    out = smtpout('server "out" { method = direct port = 2525 tls = require deny-addresses = {} }\n')
    for names in (["clear", "never"], ["never", "clear"]):
        hosts = [(f"{name}.example", [{"clear": clear, "never": never}[name].address]) for name in names]
        assert out.deliver(out.queue(BODY, ["b@there.example"]), hosts)[1]["cause"] == "tls"


# --- silence and slowness

def hang_at(point):
    def script(s):
        if point == "banner":
            s.pause(60)
        s.say("220 hi")
        if point == "EHLO":
            s.pause(60)
        s.ehlo(extensions=[])
        for verb in ("MAIL", "RCPT", "DATA"):
            s.expect(verb)
            if point == verb:
                s.pause(60)
            s.say("354 go" if verb == "DATA" else "250 ok")
        s.data()
        s.pause(60)
    return script


@pytest.mark.parametrize("point, verdict, cause, words", [
    ("banner", "unsent", "lost", "receiving the initial server greeting"),
    ("EHLO", "unsent", "lost", "performing the EHLO handshake"),
    ("MAIL", "temporary", "lost", "sending MAIL FROM"),
    ("RCPT", "temporary", "lost", "sending RCPT TO"),
    ("DATA", "temporary", "lost", "sending DATA command"),
    ("dot", "unknown", "lost", "sending end of data -- message may be sent more than once"),
])
def test_hs01_silence_at_each_command(smtpout, server, point, verdict, cause, words):
    out = smtpout(section(more='tls = none timeout = "1s"'))
    outcome, down = one(out, server(hang_at(point)))
    assert verdicts(outcome) == [verdict] and down["cause"] == cause
    text = down["text"] if verdict == "unsent" else outcome[0]["text"]
    assert re.fullmatch(rf"conversation with mx\.there\.example\[[\d.]+\] timed out while {words}", text)


def test_hs02_a_byte_now_and_then_moves_no_deadline(smtpout, server):
    def script(s):
        s.say("220 hi")
        s.expect("EHLO")
        s.drip("250-" + "x" * 200, 0.2)
    out = smtpout(section(more='tls = none timeout = "1s"'))
    started = time.monotonic()
    _, down = one(out, server(script))
    assert down["cause"] == "lost" and time.monotonic() - started < 20 * SLOW


def test_hs03_endless_reply(smtpout, server):
    def script(s):
        s.say("220 hi")
        s.expect("EHLO")
        while True:
            s.send("250-x\r\n" * 1000)
    _, down = one(smtpout(), server(script))
    assert down["cause"] == "protocol" and "too many lines" in down["text"]


def test_hs04_a_line_now_and_then_of_the_dots_reply(smtpout, server):
    def script(s):
        s.say("220 hi")
        s.ehlo(extensions=[])
        for reply in ("250 ok", "250 ok", "354 go"):
            s.line()
            s.say(reply)
        s.data()
        while True:
            s.send("250-x\r\n")
            s.pause(0.2)
    out = smtpout(section(more='tls = none timeout = "1s"'))
    started = time.monotonic()
    outcome, down = one(out, server(script))
    assert time.monotonic() - started < 20 * SLOW and verdicts(outcome) == ["unknown"] and down["cause"] == "lost"


def test_hs05_endless_line(smtpout, server):
    def script(s):
        while True:
            s.send("2" * 65536)
    _, down = one(smtpout(), server(script))
    assert down["cause"] == "protocol" and "too long" in down["text"]


def test_hs34_a_tarpit_ends_and_keeps_what_was_decided(smtpout, server):
    def script(s):
        s.say("220 hi")
        s.ehlo(extensions=[])
        s.expect("MAIL")
        s.say("250 ok")
        for i in range(100):
            s.expect("RCPT")
            s.pause(0.7)
            s.say("550 5.1.1 no" if i == 0 else "250 ok")
    out = smtpout(section(more='tls = none timeout = "1s"'))
    started = time.monotonic()
    outcome, _ = one(out, server(script), rcpts=100, timeout=20)
    assert time.monotonic() - started < 20 * SLOW
    assert verdicts(outcome) == ["permanent"] + ["temporary"] * 99


def test_hs35_a_server_that_does_not_read(smtpout, server):
    def script(s):
        s.say("220 hi")
        s.ehlo()
        while b"DATA\r\n" not in s.buffer:
            s.read()
        s.say("250 ok\n250 ok\n354 go")
        s.pause(60)
    out = smtpout(section(more='tls = none timeout = "1s"'))
    outcome, _ = one(out, server(script), body=b"x" * 70 + b"\r\n" + b"y" * 30000000 + b"\r\n", timeout=60)
    assert verdicts(outcome) == ["temporary"] and "timed out while sending message body" in outcome[0]["text"]


# --- endings

@pytest.mark.parametrize("how", ["close", "reset"])
def test_hs13_lost_between_dot_and_reply(smtpout, server, how):
    def script(s):
        s.say("220 hi")
        s.serve(dot=lambda m: getattr(s, how)())
    outcome, down = one(smtpout(), server(script))
    assert verdicts(outcome) == ["unknown"] and outcome[0]["cause"] == "unknown" and outcome[0]["was_seen"] == 1
    assert "message may be sent more than once" in outcome[0]["text"]


def test_hs20_refused_inside_the_body(smtpout, server):
    def script(s):
        s.say("220 hi")
        s.ehlo()
        while b"DATA\r\n" not in s.buffer:
            s.read()
        s.say("250 ok\n250 ok\n354 go")
        s.read()
        s.say("552 5.3.4 too big for us")
        while True:
            s.read()
    outcome, _ = one(smtpout(), server(script), body=b"x" * 20000000 + b"\r\n", timeout=30)
    assert verdicts(outcome) == ["permanent"] and outcome[0]["code"] == 552


def test_kept_connection_closed_by_the_server(smtpout, server):
    def script(s):
        s.say("220 hi")
        s.serve(mail=lambda a: s.messages and s.close())
    out = smtpout()
    srv = server(script)
    session = out.connect([("mx", [srv.address])])
    for _ in range(3):
        out.give(session, out.queue(BODY, ["b@there.example"]))
    seen = {"REPORT": [], "SESSION_DOWN": []}  # a delivery that comes when the session is over is reported behind its end
    while len(seen["REPORT"]) < 3 or not seen["SESSION_DOWN"]:
        name, fields = out.next()
        seen.setdefault(name, []).append(fields)
    reports = seen["REPORT"]
    assert [r["verdict"] for r in reports] == ["delivered", "unsent", "unsent"] and [r["was_seen"] for r in reports] == [1, 1, 0]
    assert [d["cause"] for d in seen["SESSION_DOWN"]] == ["lost"]


def test_a_truncated_queue_file_is_never_ended_with_a_dot(smtpout, server):
    srv = server()
    out = smtpout()
    session = out.connect([("mx", [srv.address])])
    out.until("SESSION_UP")
    number = out.queue(b"x" * 500000 + b"\r\n", ["b@there.example"])
    path = out.queue_path(number)
    whole = path.read_bytes()
    path.write_bytes(whole[:300000])
    out.give(session, number)
    report = out.until("REPORT")
    assert (report["verdict"], report["cause"]) == ("temporary", "local") and not srv.messages


def test_a_missing_queue_file(smtpout, server):
    out = smtpout()
    outcome, down = out.deliver(4096 * 1000000, [("mx", [server().address])])
    assert (verdicts(outcome), outcome[0]["cause"], down["cause"]) == (["temporary"], "local", "none")


def test_a_recipient_that_the_file_does_not_have(smtpout, server):
    out = smtpout()
    outcome, _ = out.deliver(out.queue(BODY, ["b@there.example"]), [("mx", [server().address])], rcpts=[1])
    assert (verdicts(outcome), outcome[1]["cause"]) == (["temporary"], "local")


# --- what a server cannot take

LATIN = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"


@pytest.mark.parametrize("extensions, converted", [(["PIPELINING", "8BITMIME"], False), (["PIPELINING"], True), ([], True)])
def test_hs33_eight_bits_for_a_server_without_8bitmime(smtpout, server, extensions, converted):
    def script(s):
        s.say("220 hi")
        s.serve(extensions=extensions)
    srv = server(script)
    body = LATIN + b"".join(b".%d gr\xfc\xdfe = \r\n" % i for i in range(20000))
    outcome, _ = one(smtpout(), srv, body=body)
    assert verdicts(outcome) == ["delivered"]
    message, = srv.wait(1)
    assert message.mail == "<a@here.example>" + ("" if converted else " BODY=8BITMIME")
    if not converted:
        assert message.data == body
        return
    parsed = email.message_from_bytes(message.data)
    assert message.data.isascii() and parsed["Content-Transfer-Encoding"] == "quoted-printable"
    assert max(len(line) for line in message.data.split(b"\r\n")) <= 76
    assert parsed.get_payload(decode=True) == body[len(LATIN):]


def utf8_server(s):
    s.say("220 hi")
    s.serve(extensions=["8BITMIME", "SMTPUTF8"])


def deliver_utf8(smtpout, hosts, rcpt="jürgen@there.example"):
    out = smtpout()
    return out.deliver(out.queue(BODY, [rcpt], flags="utf8"), hosts)


def test_hs33_an_address_that_needs_smtputf8_tries_the_other_hosts(smtpout, server):
    old, new = server(), server(utf8_server)
    outcome, _ = deliver_utf8(smtpout, [("old.example", [old.address]), ("new.example", [new.address])])
    assert verdicts(outcome) == ["delivered"]
    message, = new.wait(1)
    assert message.rcpts == ["<jürgen@there.example>"] and message.mail == "<a@here.example> BODY=8BITMIME SMTPUTF8"
    # Connections are raced: on a slow machine the second host may win, and the first is never greeted.
    wait_until(lambda: [c.split()[0] for s in old.sessions for c in s.commands] in (["EHLO", "QUIT"], []), what="QUIT")


def test_hs33_no_host_has_smtputf8(smtpout, server):
    outcome, _ = deliver_utf8(smtpout, [("one.example", [server().address]), ("two.example", [server().address])])
    assert (verdicts(outcome), outcome[0]["dsn"]) == (["permanent"], "5.6.7")
    assert "SMTPUTF8 is required, but was not offered by host" in outcome[0]["text"]


def test_hs33_a_host_that_could_not_be_asked_may_have_smtputf8(smtpout, server):
    outcome, down = deliver_utf8(smtpout, [("dead.example", [free_address()]), ("old.example", [server().address])])
    assert verdicts(outcome) == ["unsent"] and (down["cause"], down["dsn"]) == ("capability", "4.6.7")


def test_hs33_on_a_kept_connection_it_goes_back_to_be_the_first_of_another(smtpout, server):
    out = smtpout()
    session = out.connect([("one.example", [server().address]), ("two.example", [server().address])])
    plain, special = out.queue(BODY, ["b@there.example"]), out.queue(BODY, ["jürgen@there.example"], flags="utf8")
    out.give(session, plain)
    out.give(session, special)
    reports = {(r := out.until("REPORT"))["queue_id"]: r["verdict"] for _ in range(2)}
    assert reports == {plain: "delivered", special: "unsent"} and out.until("SESSION_DOWN")["cause"] == "none"


def test_a_domain_that_is_not_ascii_goes_out_as_a_labels(smtpout, server):
    srv = server()
    outcome, _ = deliver_utf8(smtpout, [("mx", [srv.address])], rcpt="b@bücher.example")
    assert verdicts(outcome) == ["delivered"] and srv.wait(1)[0].rcpts == ["<b@xn--bcher-kva.example>"]
    assert "SMTPUTF8" not in srv.messages[0].mail


def test_hs29_a_refusing_server_is_left_with_quit(smtpout, server):
    def script(s):
        s.say("554 5.7.1 go away")
        s.expect("QUIT")
        left.set()
    left = threading.Event()
    out = smtpout()
    _, down = out.deliver(out.queue(BODY, ["b@there.example"]), [("mx", [server(script).address])])
    assert down["cause"] == "greeting" and left.wait(10)


def test_hs38_an_mx_host_with_our_own_name(smtpout, server):
    ours, other = server(lambda s: (s.say("220 mail.here.example ESMTP"), s.serve())), server()
    out = smtpout('server "out" { method = direct port = 2525 tls = none deny-addresses = {} }\n')
    hosts = [("loop.example", [ours.address]), ("mx.example", [other.address])]
    outcome, _ = out.deliver(out.queue(BODY, ["b@there.example"]), hosts)
    assert verdicts(outcome) == ["delivered"] and not ours.messages and len(other.messages) == 1
    _, down = out.deliver(out.queue(BODY, ["b@there.example"]), hosts[:1])
    assert (down["cause"], down["dsn"]) == ("greeting", "5.4.6") and "loops back" in down["text"]
    for order in (hosts[:1] + [("dead.example", [free_address()])], [("dead.example", [free_address()])] + hosts[:1]):
        _, down = out.deliver(out.queue(BODY, ["b@there.example"]), order)
        assert down["cause"] == "connect", "one that may pass counts"


# --- TLS

@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A CA, and a certificate of it for mx.there.example; returns (CA file, server context)."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key",
            "-out", "ca.pem", "-days", "30", "-subj", "/CN=test CA")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "mx.key", "-out", "mx.csr",
            "-subj", "/CN=mx.there.example")
    (folder / "ext").write_text("subjectAltName=DNS:mx.there.example\n")
    openssl("x509", "-req", "-in", "mx.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "mx.pem",
            "-days", "30", "-extfile", "ext")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "mx.pem", folder / "mx.key")
    return folder / "ca.pem", context


def tls_server(s):
    def note(message):
        s.tls_facts = s.tls and (s.tls.version(), s.tls.session_reused)
    s.say("220 hi")
    s.serve(extensions=["PIPELINING", "STARTTLS"], dot=note)


def wrapped(s):
    s.sock = s.tls = s.server.tls.wrap_socket(s.sock, server_side=True)
    s.say("220 hi")
    s.serve()


@pytest.mark.parametrize("level", ["opportunistic", "require", "verify"])
def test_starttls(smtpout, server, certificates, level):
    ca, context = certificates
    srv = server(tls_server, tls=context)
    out = smtpout(section(more=f'tls = {level} tls-ca-file = "{ca}"'))
    body = b".dots\r\n" * 30000
    outcome, _ = one(out, srv, body=body)
    assert verdicts(outcome) == ["delivered"] and srv.sessions[0].tls_facts[0] in ("TLSv1.2", "TLSv1.3")
    assert srv.messages[0].data == body
    assert [c.split()[0] for c in srv.sessions[0].commands[:3]] == ["EHLO", "STARTTLS", "EHLO"]


def test_tls_sessions_are_resumed(smtpout, server, certificates):
    ca, context = certificates
    srv = server(tls_server, tls=context)
    out = smtpout(section(more=f'tls = verify tls-ca-file = "{ca}"'))
    for _ in range(2):
        assert verdicts(one(out, srv)[0]) == ["delivered"]
    assert [s.tls_facts[1] for s in srv.sessions] == [False, True]


def test_wrapper(smtpout, server, certificates):
    ca, context = certificates
    srv = server(wrapped, tls=context)
    out = smtpout(section(more=f'tls = verify tls-wrapper = true tls-ca-file = "{ca}"'))
    assert verdicts(one(out, srv)[0]) == ["delivered"]


def test_tl01_starttls_missing(smtpout, server):
    out = smtpout(section(more="tls = require"))
    outcome, down = one(out, server())
    assert verdicts(outcome) == ["unsent"] and down["cause"] == "tls" and "was not offered" in down["text"]


def test_tl02_commands_behind_the_starttls_reply(smtpout, server, certificates):
    def script(s):
        s.until_starttls(reply="220 go\n250-mx\n250 PIPELINING")
        s.read()
    outcome, down = one(smtpout(section(more="tls = opportunistic")), server(script, tls=certificates[1]))
    assert down["cause"] == "protocol" and verdicts(outcome) == ["unsent"]


def test_tl05_the_handshake_stalls(smtpout, server):
    def script(s):
        s.until_starttls()
        s.pause(60)
    out = smtpout(section(more='tls = require timeout = "1s"'))
    _, down = one(out, server(script))
    assert down["cause"] == "tls" and "timed out" in down["text"]


def test_tl06_opportunistic_tries_again_in_clear(smtpout, server):
    srv = server([breaks_tls, tls_server])
    outcome, _ = one(smtpout(section(more="tls = opportunistic")), srv)
    assert verdicts(outcome) == ["delivered"]
    assert not [c for c in srv.sessions[1].commands if c == "STARTTLS"]


def test_tl06_require_does_not(smtpout, server):
    srv = server([breaks_tls, tls_server])
    outcome, down = one(smtpout(section(more="tls = require")), srv)
    assert verdicts(outcome) == ["unsent"] and down["cause"] == "tls" and len(srv.sessions) == 1


@pytest.mark.parametrize("host, ca, words", [("mx.there.example", False, "is not signed by a known authority: issuer CN=test CA"),
                                             ("other.example", True, "is for mx.there.example; expected other.example")])
def test_tl07_wrong_name_or_unknown_issuer(smtpout, server, certificates, tmp_path, host, ca, words):
    ours, context = certificates
    srv = server(tls_server, tls=context)
    file = f'tls-ca-file = "{ours}"' if ca else ""
    out = smtpout(section(more=f"tls = verify {file}"))
    outcome, down = out.deliver(out.queue(BODY, ["b@there.example"]), [(host, [srv.address])])
    assert verdicts(outcome) == ["unsent"] and down["cause"] == "tls" and words in down["text"] and not srv.messages


# --- life with the scheduler

def posted(out):
    """Queue ids on the board."""
    data = os.pread(out.board, 4096 * 16, 0)
    return [int.from_bytes(data[i:i + 8], "little") for i in range(0, len(data), 16) if any(data[i:i + 8])]


def test_the_board_names_what_hangs_behind_the_dot(smtpout, server):
    def script(s):
        s.say("220 hi")
        s.serve(dot=lambda m: s.pause(1.5))
    out = smtpout()
    srv = server(script)
    session = out.connect([("mx", [srv.address])])
    number = out.queue(BODY, ["b@there.example"])
    out.give(session, number)
    wait_until(lambda: posted(out) == [number], what="the board")
    out.until("REPORT")
    wait_until(lambda: posted(out) == [], what="an empty board")


def test_a_successor_leaves_the_board_until_the_scheduler_has_read_it(smtpout, server):
    """It erased the board at its start: a slow scheduler then took the killed worker's messages for unsent."""
    def script(s):
        s.say("220 hi")
        s.serve(dot=lambda m: s.pause(30))
    out = smtpout()
    number = out.queue(BODY, ["b@there.example"])
    out.give(out.connect([("mx", [server(script).address])]), number)
    wait_until(lambda: posted(out) == [number], what="the board")
    out.kill()
    out.generation += 1
    out.start()
    assert posted(out) == [number]
    out.send("RESYNC")
    out.until("RESYNCED")
    assert posted(out) == []


def test_cr23_outcomes_are_logged_when_they_are_recorded(smtpout, server):
    out = smtpout()
    srv = server()
    session = out.connect([("mx", [srv.address])])
    numbers = [out.queue(BODY, ["b@there.example"]) for _ in range(2)]
    for number in numbers:
        out.give(session, number)
    reports = [out.until("REPORT") for _ in numbers]
    out.hang_up(session)
    out.until("SESSION_DOWN")
    assert "status=" not in out.log()
    out.acknowledge(reports[1], disposition=PASSED_ON)
    out.acknowledge(reports[0], seconds=3600)
    wait_until(lambda: "status=sent" in out.log(), what="the log line")
    assert out.log().count("status=") == 1 and re.search(r"server=out attempt=1 next=20\d\d-\d\d-\d\dT[\d:]+Z\n", out.log())


def test_cr22_a_new_scheduler_is_told_everything(smtpout, server):
    def script(s):
        s.say("220 hi")
        s.serve(dot=lambda m: s.pause(2) if len(s.messages) == 1 else None)
    out = smtpout()
    srv = server(script)
    session = out.connect([("mx", [srv.address])])
    numbers = [out.queue(BODY, ["b@there.example"]) for _ in range(3)]
    for number in numbers:
        out.give(session, number, group=7)
    first = out.until("REPORT")
    out.tell_peer(PEER_DEAD)
    out.us += 1
    out.tell_peer(PEER_ALIVE)
    out.send("RESYNC")
    seen = []
    out.until("RESYNCED", also=seen)
    assert [f["sequence"] for n, f in seen if n == "REPORT"] == [first["sequence"]]
    assert [(f["queue_id"], f["group"]) for n, f in seen if n == "INFLIGHT"] == [(n, 7) for n in numbers[1:]]
    told = {"session": session, "server": server_key("out"), "destination": 3, "site": 4}
    assert [f for n, f in seen if n == "SESSION_OPEN"] == [told]
    assert [out.until("REPORT")["queue_id"] for _ in range(2)] == numbers[1:]


def test_sigterm_ends_what_is_under_way_and_hands_back_the_rest(smtpout, server):
    def script(s):
        s.say("220 hi")
        s.serve(extensions=[], dot=lambda m: s.pause(1))
    out = smtpout()
    srv = server(script)
    session = out.connect([("mx", [srv.address])])
    numbers = [out.queue(BODY, ["b@there.example"]) for _ in range(5)]
    for number in numbers:
        out.give(session, number)
    wait_until(lambda: posted(out), what="the first dot")
    out.signal(signal.SIGTERM)
    seen = []
    out.until("SESSION_DOWN", also=seen)
    reports = [f for n, f in seen if n == "REPORT"]
    assert sorted(r["queue_id"] for r in reports) == numbers
    assert {r["verdict"] for r in reports} == {"delivered", "unsent"}
    assert next(r for r in reports if r["queue_id"] == numbers[0])["verdict"] == "delivered"
    assert not out.has_ended(), "it waits for the acknowledgements"
    out.acknowledge(*reports)
    assert out.wait() == 0 and out.log().count("status=sent") == len(srv.messages)


def test_a_delivery_for_a_session_that_is_gone(smtpout):
    out = smtpout()
    out.give(4711, 4096, rcpts=[0, 1])
    report = out.until("REPORT")
    assert (report["verdict"], report["rcpts"], report["last"]) == ("unsent", [0, 1], 1)


def test_a_thousand_sessions_in_little_memory(smtpout, tmp_path):
    def rss():
        with open(f"/proc/{out.pid}/statm") as f:
            return int(f.read().split()[1]) * 4096
    sink = Sink(tmp_path)
    try:
        out = smtpout(section(sink.port))
        before = rss()
        for _ in range(1000):
            out.connect([("mx", [sink.address])])
        for _ in range(1000):
            out.until("SESSION_UP")
        assert (rss() - before) / 1000 < 8192 * SLOW
    finally:
        sink.stop()


# --- through the whole pipeline: whatever a server says, a message arrives or bounces for a reason, and once

RETRY = 'retry { after = { "1s" } }\n'


def letter(rcpts=("b@there.example",), body="hello\n"):
    return ("X-Sender: <a@here.example>\n" + "".join(f"X-Receiver: <{r}>\n" for r in rcpts) +
            f"From: a@here.example\nTo: somebody@there.example\nSubject: x\n\n{body}")


def relay(srv, name="out", more="tls = none"):
    return f'server "{name}" {{ method = relay host = "{srv.address}" port = {srv.port} {more} }}\n'


def answers(**replies):
    """A server that gives these replies to MAIL, RCPT, DATA or the final dot, step by step."""
    def script(s):
        s.say(replies.get("banner", "220 hi"))
        s.ehlo(extensions=replies.get("extensions", []))
        for verb, good in (("MAIL", "250 ok"), ("RCPT", "250 ok"), ("DATA", "354 go")):
            s.expect(verb)
            s.say(replies.get(verb, good))
        s.data()
        s.say(replies.get("dot", "250 ok"))
        s.read()
    return script


NONSENSE = {
    "HS07 25": answers(MAIL="25"), "HS07 2500": answers(RCPT="2500 x"), "HS07 letters": answers(DATA="abc"),
    "HS07 empty": answers(dot=""), "HS07 a dot's 250 without reply": answers(dot="25"),
    "HS10 codes change at MAIL": answers(MAIL="550-no\n250 yes"), "HS10 codes change at RCPT": answers(RCPT="250-x\n550 y"),
    "HS10 codes change at the dot": answers(dot="550-x\n250 y"), "HS14 354": answers(dot="354 x"),
    "HS14 220": answers(dot="220 x"), "HS14 150": answers(dot="150 x"), "HS15": answers(DATA="250 ok"),
    "HS16 RCPT": answers(RCPT="354 go"), "HS16 MAIL": answers(MAIL="354 go"),
    "HS18 banner": answers(banner="220 hi\n250 early"), "HS18 MAIL": answers(MAIL="250 ok\n250 early"),
    "HS27 banner": answers(banner="421 4.3.2 busy"), "HS27 MAIL": answers(MAIL="421 4.3.2 busy"),
    "HS27 RCPT": answers(RCPT="421 4.3.2 busy"), "HS27 DATA": answers(DATA="421 4.3.2 busy"), "HS27 dot": answers(dot="421 4.3.2 busy"),
    "450 at the dot": answers(dot="450 later"),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_confusion_defers_and_never_bounces(mta, server, case):
    srv = server([NONSENSE[case], ordinary])
    mta.start(RETRY + relay(srv))
    mta.drop(letter())
    message, = srv.wait(1)
    mta.wait_log("status=sent")
    mta.wait_empty()
    assert message.rcpts == ["<b@there.example>"] and len(srv.messages) == 1, "delivered once, and nobody was told otherwise"
    assert not mta.grep("status=bounced")


def test_hs24_through_the_pipeline_one_bounce_names_both(mta, server):
    answered = {}

    def rcpt(argument):
        name = argument[1:].split("@")[0]
        answered[name] = answered.get(name, 0) + 1
        if name in ("r2", "r3"):
            return "550 5.1.1 never"
        return "450 4.2.1 later" if name == "r1" and answered[name] == 1 else None

    def script(s):
        s.say("220 hi")
        s.serve(rcpt=rcpt)
    srv = server(script)
    mta.start(RETRY + relay(srv))
    mta.drop(letter([f"r{i}@there.example" for i in range(5)]))
    messages = srv.wait(3)
    mta.wait_empty()
    assert sorted(sorted(m.rcpts) for m in messages) == [["<a@here.example>"], ["<r0@there.example>", "<r4@there.example>"],
                                                         ["<r1@there.example>"]] or \
        sorted(r for m in messages for r in m.rcpts) == ["<a@here.example>"] + [f"<r{i}@there.example>" for i in (0, 1, 4)]
    bounce, = [m for m in messages if m.rcpts == ["<a@here.example>"]]
    assert bounce.mail.startswith("<>") and b"r2@there.example" in bounce.data and b"r3@there.example" in bounce.data
    assert len(mta.grep("status=bounced")) == 2 and len(mta.grep("status=deferred")) == 1


def test_hs29_a_refusing_relay_leads_to_the_next_server(mta, server):
    bad, good = server(lambda s: s.say("554 5.7.1 go away")), server()
    mta.start(RETRY + relay(bad, "first") + relay(good, "second"))
    mta.drop(letter())
    good.wait(1)
    mta.wait_empty()
    mta.wait_log(r"status=sent .*server=second")
    assert not mta.grep("status=(deferred|bounced)")


def test_hs32_too_large_for_the_server_bounces_unsent(mta, server):
    def script(s):
        s.say("220 hi")
        s.serve(extensions=["SIZE 20000"])
    srv = server(script)
    mta.start(RETRY + relay(srv))
    mta.drop(letter(body="x\n" * 20000))
    bounce, = srv.wait(1)
    mta.wait_empty()
    assert bounce.rcpts == ["<a@here.example>"] and b"5.3.4" in bounce.data
    assert not [c for s in srv.sessions for c in s.commands if c.startswith("MAIL FROM:<a@")]


def test_killed_between_dot_and_reply_is_sent_again_and_said_so(mta, server):
    def script(s):
        s.say("220 hi")
        s.serve(dot=lambda m: mta.kill("smtpout") and s.pause(30))
    srv = server([script, ordinary])
    mta.allow.append("signal 9")
    mta.start(RETRY + relay(srv))
    mta.drop(letter())
    srv.wait(1)
    mta.wait_empty()
    assert mta.wait_log("possibly")


def test_both_killed_between_dot_and_reply_are_said_to_be_repeated(mta, server):
    """The scheduler that reads the dead worker's board is not the one that gave it the message."""
    def kill_both(message):
        mta.kill("scheduler", signal.SIGSTOP)   # so that it hears nothing of the worker's death
        mta.kill("smtpout")
        mta.kill("scheduler")
    srv = server([lambda s: (s.say("220 hi"), s.serve(dot=lambda m: kill_both(m) or s.pause(30))), ordinary])
    mta.allow.append("signal 9")
    mta.start(RETRY + relay(srv))
    mta.drop(letter())
    srv.wait(1)
    mta.wait_empty()
    mta.wait_log("status=sent")
    assert len(mta.grep("possibly repeated")) == len(mta.grep("status=sent")) == 1


def test_a_server_that_never_answers_holds_up_no_reload(mta, server):
    """The worker that waits for it goes on waiting; the next one carries everybody else's mail meanwhile."""
    def slow(s):
        s.say("220 hi")
        s.serve(dot=lambda m: arrived.set() or gate.wait(60) and None)
    arrived, gate = threading.Event(), threading.Event()
    first, other = server(slow), server()
    mta.start('route "other" { recipient = { "elsewhere.example" } servers = { "other" } }\n' + relay(first, "first") +
              relay(other, "other"))
    mta.drop(letter())
    assert arrived.wait(20)
    for i in range(1, 3):                       # the second time there is no place left but its own
        mta.postern("reload", check=True)
        mta.wait_log("all processes run with the new configuration", times=i)
        mta.drop(letter(("b@elsewhere.example",)))
        other.wait(i)
    assert not first.messages and len(mta.pids("smtpout")) == 2
    gate.set()
    mta.wait_empty()
    wait_until(lambda: len(mta.pids("smtpout")) == 1)
    assert len(first.messages) == 1 and not mta.grep("possibly repeated")


@pytest.mark.parametrize("reply", ["250 ok", "450 4.2.0 later", "550 5.7.1 no policy"])
@pytest.mark.parametrize("change", ["reordered", "removed"])
def test_reload_while_a_message_waits_for_the_reply_to_its_dot(mta, server, change, reply):
    """CR24: The worker that drains counts servers as the old configuration does: its outcomes must not become another's."""
    gate = threading.Event()

    def slow(s):
        s.say("220 hi")
        s.serve(dot=lambda m: arrived.set() or gate.wait(60) and reply)
    arrived = threading.Event()
    first, spare = server(slow), server()
    mta.start('servers = { "first" }\n' + RETRY + relay(spare, "spare") + relay(first, "first"))
    mta.drop(letter())
    assert arrived.wait(20)
    order = relay(first, "first") if change == "reordered" else ""
    mta.configure('servers = { "%s" }\n' % ("first" if order else "spare") + RETRY + order + relay(spare, "spare"))
    before = mta.pids("scheduler")
    mta.postern("reload", check=True)
    wait_until(lambda: (now := mta.pids("scheduler")) and now != before, what="another scheduler")
    gate.set()
    if reply[0] == "2":
        mta.wait_log(r"to=<b@there\.example>.*status=sent.*server=first")
        mta.wait_empty()
        assert not spare.messages and len(first.messages) == 1, "the outcome was recorded: nobody gets a second copy"
        history = "".join(path.read_text() for path in (mta.spool / "history").iterdir())
        assert '"spare"' not in history, history
    elif change == "removed":
        message, = spare.wait(1)
        mta.wait_empty()
        assert message.rcpts == ["<b@there.example>"] and not mta.grep("status=bounced"), "the servers that there are were not tried"


@pytest.mark.parametrize("count", [1, 2])
def test_rcptmax_of_rfc_9422_is_obeyed(mta, server, count):
    """Also by the first delivery, which is on its way before the server has told; whatever it says is no attempt."""
    srv = server(lambda s: (s.say("220 hi"), s.serve(extensions=["PIPELINING", "LIMITS RCPTMAX=3"])))
    mta.start(RETRY + relay(srv))
    for i in range(count):
        many = "".join(f"X-Receiver: <u{i}-{k}@d{k}.example>\n" for k in range(10))
        mta.drop(f"X-Sender: <a@here.example>\n{many}Subject: x\n\nx\n")
    messages = srv.wait(4 * count)
    mta.wait_empty()
    assert max(len(m.rcpts) for m in messages) == 3
    assert sorted(r for m in messages for r in m.rcpts) == sorted(f"<u{i}-{k}@d{k}.example>" for i in range(count) for k in range(10))
    assert not mta.grep("status=(deferred|bounced)") and not mta.grep("attempt=[2-9]")


def test_rcptdomainmax_of_rfc_9422_is_obeyed(mta, server):
    """It counts over a session: mail for another domain goes over another connection."""
    srv = server(lambda s: (s.say("220 hi"), s.serve(extensions=["PIPELINING", "LIMITS RCPTDOMAINMAX=1"])))
    mta.start(RETRY + relay(srv, more="tls = none max-connections = 1"))
    for i in range(2):
        many = "".join(f"X-Receiver: <u{i}-{k}@d{k % 3}.example>\n" for k in range(6))
        mta.drop(f"X-Sender: <a@here.example>\n{many}Subject: x\n\nx\n")
    messages = srv.wait(6)
    mta.wait_empty()
    for session in srv.sessions:
        assert len({c.split("@")[1] for c in session.commands if c.startswith("RCPT")}) <= 1
    assert sorted(r for m in messages for r in m.rcpts) == sorted(f"<u{i}-{k}@d{k % 3}.example>" for i in range(2) for k in range(6))
    assert not mta.grep("status=(deferred|bounced)") and not mta.grep("attempt=[2-9]")
