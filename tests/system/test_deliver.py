"""A message dropped into the spool arrives: through real servers, by direct delivery, later, elsewhere, or as a bounce."""
import email
import json
import random
import re
import subprocess
import time

import peers
import pytest
from fake_smtp import free_address
from harness import wait_until

RETRY = 'retry { after = { "1s" } }\n'

# Named bodies as they are dropped; what arrives is the same with CRLF at the end of each line.
BODIES = {
    "plain": b"one\ntwo\n",
    "crlf": b"one\r\ntwo\r\n",
    "mixed line ends": b"one\r\ntwo\nthree\r\n\n",
    "dots": b".\n..\n.leading\n...\nin.side\n.\n",
    "only a dot": b".\n",
    "8-bit": "Grüße, 東京\n".encode() + bytes(range(0xa0, 0x100)) + b"\n",
    "no last newline": b"one\n.two",
    "empty": b"",
    "blank lines": b"\n\n\n",
}


def letter(body=b"hello\n", sender="a@here.example", to="b@there.example", ident="1", envelope_to=None):
    """A message with every header that would be added otherwise; envelope_to adds X-Sender and X-Receiver."""
    head = f"From: {sender or 'a@here.example'}\nTo: {to}\nSubject: test {ident}\nDate: Sat, 21 Nov 2026 12:00:00 +0000\n" \
           f"Message-ID: <{ident}@here.example>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
    envelope = ""
    if envelope_to is not None:
        envelope = f"X-Sender: <{sender}>\n" + "".join(f"X-Receiver: <{rcpt}>\n" for rcpt in envelope_to)
    return envelope.encode() + head.encode() + body


def on_the_wire(message):
    """What must arrive below our Received line: CRLF line ends, the last line ended."""
    data = re.sub(rb"\r?\n", b"\r\n", message)
    return data if data.endswith(b"\r\n") else data + b"\r\n"


def arrived_whole(data, message):
    """Received line of ours on top, then the message as dropped."""
    wanted = on_the_wire(message)
    head = data[:len(data) - len(wanted)]
    return data.endswith(wanted) and head.startswith(b"Received:") and b"\r\n\r\n" not in head


def by_id(rows):
    return {row["id"]: row for row in rows}


# --- through real servers

@pytest.mark.parametrize("kind", [peers.Postfix, peers.Exim, peers.OpenSmtpd, peers.SmtpSink])
def test_relay_through_a_real_server(mta, peer, kind):
    server = peer(kind)
    mta.start(server.relay())
    for i, body in enumerate(BODIES.values()):
        mta.drop(letter(body, ident=str(i)))
    server.wait(len(BODIES))
    mta.wait_empty()
    arrived = server.wait(len(BODIES))
    bodies_only = kind in (peers.OpenSmtpd, peers.SmtpSink)
    for i, (label, body) in enumerate(BODIES.items()):
        mine, = [data for data in arrived if f"<{i}@here.example>".encode() in data]
        wanted = on_the_wire(body if bodies_only else letter(body, ident=str(i))).replace(b"\r\n", b"\n")
        if bodies_only and not body:
            wanted = b""
        # Postfix's maildir and Exim end a file with the message; smtp-sink adds an empty line.
        assert mine.endswith(wanted) or mine.endswith(wanted + b"\n"), (label, mine)
    assert len(mta.grep(r"status=sent")) == len(BODIES)


def test_relay_with_opportunistic_tls(mta, peer, folder):
    server = peer(peers.Postfix, pki=peers.make_pki(folder), more="smtpd_tls_received_header = yes")
    mta.start(server.relay(more="tls = opportunistic"))
    mta.drop(letter())
    message, = server.wait(1)
    assert b"using TLSv1.3" in message


def test_direct_through_a_signed_zone(mta, peer, sink):
    """MX of a signed zone, of an unsigned one, no MX but an address, and a second MX where the first is dead."""
    postfix, other = peer(peers.Postfix), sink()
    nsd = peer(peers.Nsd, [f"mx A {postfix.address}", f"other A {other.address}", f"dead A {free_address()}", "signed MX 10 mx",
                           f"bare A {other.address}", "second MX 10 dead", "second MX 20 other"], plain=["@ MX 10 other.example."])
    mta.start(nsd.conf() + 'server "direct" { method = direct port = 2525 deny-addresses = {} }\n')
    for domain in ("signed", "plain", "bare", "second"):
        mta.drop(letter(to=f"b@{domain}.example", ident=domain))
    postfix.wait(1)
    rows = by_id(other.wait(3))
    assert set(rows) == {"<plain@here.example>", "<bare@here.example>", "<second@here.example>"}
    mta.wait_log("status=sent", times=4)


def test_bogus_signatures_defer(mta, peer, sink):
    server = sink()
    nsd = peer(peers.Nsd, ["site MX 10 mx", f"mx A {server.address}"], tamper=("10 mx.example.", "7 mx.example."))
    mta.start(nsd.conf() + 'server "direct" { method = direct port = 2525 deny-addresses = {} }\n')
    mta.drop(letter(to="b@site.example"))
    mta.wait_log("status=deferred", timeout=60)
    assert server.count() == 0


# --- bytes

@pytest.mark.parametrize("body", BODIES.values(), ids=[label.replace(" ", "-") for label in BODIES])
def test_bytes_arrive_as_dropped(mta, sink, body):
    server = sink(record=True)
    mta.start(server.relay())
    mta.drop(letter(body))
    server.wait(1)
    (_, data), = server.messages()
    assert arrived_whole(data, letter(body)), data


def test_many_messages_of_many_shapes(mta, sink):
    """Random bodies around the sizes where buffers end, several at a time over few connections."""
    shapes = random.Random(1)
    letters = {}
    for i in range(200):
        size = shapes.choice([0, 1, 511, 4095, 4096, 4097, 16384, 65535, 65536, 65537, 200000])
        lines, total = [], 0
        while total < size:
            line = bytes(shapes.choices(b"abc .\xe4", k=shapes.choice([0, 1, 2, 70, 990])))
            lines.append(line[:size - total])
            total += len(line) + 2
        letters[f"<{i}@here.example>"] = letter(b"\n".join(lines) + b"\n", ident=str(i))
    server = sink(record=True)
    mta.start(server.relay())
    for message in letters.values():
        mta.drop(message)
    server.wait(len(letters), timeout=60)
    for _, data in server.messages():
        ident = re.search(rb"Message-ID: (<\d+@here.example>)", data)[1].decode()
        assert arrived_whole(data, letters.pop(ident)), ident
    assert not letters and sum(row["bare"] != "0" for row in server.ledger()) == 0


def test_thirty_megabytes(mta, sink):
    line = b".a line of sixty-four bytes with a dot in front and 8-bit \xe4\xf6\xfc\n"
    body = line * (30 * 1024 * 1024 // len(line))
    server = sink(record=True)
    mta.start(server.relay())
    mta.drop(letter(body))
    server.wait(1, timeout=60)
    (_, data), = server.messages()
    assert arrived_whole(data, letter(body))
    mta.wait_empty()


def test_thousand_recipients_over_fifty_domains(mta, peer, sink):
    sinks = [sink(record=True) for _ in range(5)]
    records = [f"mx{i} A {one.address}" for i, one in enumerate(sinks)]
    records += [f"d{i} MX 10 mx{i % 5}" for i in range(50)]
    nsd = peer(peers.Nsd, records)
    mta.start(nsd.conf() + 'server "direct" { method = direct port = 2525 deny-addresses = {} }\n')
    rcpts = [f"u{i}@d{i % 50}.example" for i in range(1000)]
    message = letter(b"to all of you\n.\n")
    mta.drop(letter(b"to all of you\n.\n", envelope_to=rcpts))
    wait_until(lambda: sum(len(row["rcpts"]) for one in sinks for row in one.ledger()) >= 1000, 60, "1,000 recipients")
    mta.wait_empty()
    got = [rcpt for one in sinks for row in one.ledger() for rcpt in row["rcpts"]]
    assert sorted(got) == sorted(rcpts), "each recipient exactly once"
    for i, one in enumerate(sinks):
        assert all(int(re.search(r"@d(\d+)", rcpt)[1]) % 5 == i for row in one.ledger() for rcpt in row["rcpts"])
        assert all(arrived_whole(data, message) for _, data in one.messages())
    assert len(mta.grep("status=sent")) == 1000


def test_bcc_and_envelope(mta, sink):
    server = sink(record=True)
    mta.start(server.relay())
    mta.drop("From: a@here.example\nTo: b@there.example\nBcc: c@there.example,\n d@else.example\nSubject: x\n\nhello\n")
    wait_until(lambda: sum(len(row["rcpts"]) for row in server.ledger()) == 3)
    got = sorted(rcpt for row in server.ledger() for rcpt in row["rcpts"])
    assert got == ["b@there.example", "c@there.example", "d@else.example"]
    for _, data in server.messages():
        parsed = email.message_from_bytes(data)
        assert parsed["Bcc"] is None and b"else.example" not in data
        assert parsed["Date"] and parsed["Message-ID"] and len(parsed.get_all("Received")) == 1


# --- later

def test_retry_after_4xx(mta, sink):
    server = sink("-o", "slow*=451 4.2.0 come back later")
    mta.start(RETRY + server.relay())
    mta.drop(letter(envelope_to=["fast@there.example", "slow@there.example"]))
    first, second = server.wait(2)
    assert first["rcpts"] == ["fast@there.example"] and second["rcpts"] == ["slow@there.example"]
    assert second["time"] - first["time"] > 0.9
    deferred, = mta.grep("status=deferred")
    assert "to=<slow@there.example>" in deferred and "dsn=4.2.0" in deferred and "come back later" in deferred
    mta.wait_empty()


def test_retry_when_the_server_comes_back(mta, sink):
    server = sink("-m", "refuse")
    server.break_it()
    mta.start(RETRY + server.relay())
    for i in range(20):
        mta.drop(letter(ident=str(i)))
    mta.wait_log("status=deferred")
    server.mend_it()
    assert len({row["id"] for row in server.wait(20, timeout=60)}) == 20
    mta.wait_empty()


def test_waiting_mail_survives_a_restart(mta, sink):
    server = sink("-o", "*=451 4.2.0 come back later")
    mta.start(RETRY + server.relay())
    for i in range(50):
        mta.drop(letter(to=f"u{i}@there.example", ident=str(i)))
    mta.wait_log("status=deferred")
    mta.restart()
    rows = server.wait(50, timeout=60)
    assert len({row["id"] for row in rows}) == len(rows) == 50
    mta.wait_empty()


# --- elsewhere

@pytest.mark.parametrize("how", ["refuse", "tempfail", "bye", "drop"])
def test_failover_to_the_secondary(mta, sink, how):
    first, second = sink("-m", how, "-n", "5"), sink()
    mta.start(first.relay("first") + second.relay("second"))
    for i in range(5):
        mta.drop(letter(ident=f"early{i}"))
    first.wait(5)
    for i in range(20):
        mta.drop(letter(ident=f"late{i}"))
    rows = second.wait(20, timeout=60)
    assert sorted(row["id"] for row in rows) == sorted(f"<late{i}@here.example>" for i in range(20))
    mta.wait_empty()
    assert first.count() == 5


def test_excluded_domains_take_the_other_server(mta, sink):
    first, second = sink(), sink()
    mta.start(first.relay("first", 'exclude-domains = { "far.example, .far.example", "off.example" }') + second.relay("second"))
    for domain in ("near.example", "far.example", "sub.far.example", "off.example", "sub.off.example"):
        mta.drop(letter(to=f"b@{domain}", ident=domain))
    assert {row["id"] for row in first.wait(2)} == {"<near.example@here.example>", "<sub.off.example@here.example>"}
    assert {row["id"] for row in second.wait(3)} == {f"<{d}@here.example>" for d in ("far.example", "sub.far.example", "off.example")}


def test_no_server_may_carry_it(mta, sink):
    server = sink(record=True)
    mta.start(server.relay("only", 'exclude-domains = { "far.example" }'))
    mta.drop(letter(to="b@far.example"))
    row, = server.wait(1)
    assert row["sender"] == "" and row["rcpts"] == ["a@here.example"]
    (_, data), = server.messages()
    assert b"no server may carry mail for far.example" in data and b"5.7.1" in data


# --- bounces

def bounce_parts(data):
    """The three parts of an RFC 3464 report."""
    message = email.message_from_bytes(data)
    assert message.get_content_type() == "multipart/report" and message.get_param("report-type") == "delivery-status"
    text, status, original = message.get_payload()
    assert status.get_content_type() == "message/delivery-status"
    return message, text.get_payload(decode=True).decode(), status.get_payload(), original


def test_bounce_reaches_the_sender(mta, sink):
    server = sink("-x", "nobody*=550 5.1.1 no such user here", record=True)
    mta.start(server.relay())
    mta.drop(letter(envelope_to=["b@there.example", "nobody@there.example", "nobody2@there.example"]))
    rows = server.wait(2)
    bounce = [row for row in rows if row["sender"] == ""]
    assert len(bounce) == 1 and bounce[0]["rcpts"] == ["a@here.example"]
    data, = [data for envelope, data in server.messages() if any(line.startswith("mail <>") for line in envelope)]
    message, text, status, original = bounce_parts(data)
    assert message["Auto-Submitted"] == "auto-replied" and "a@here.example" in message["To"]
    recipients = {part["Final-Recipient"].split(";")[1].strip(): part for part in status[1:]}
    assert set(recipients) == {"nobody@there.example", "nobody2@there.example"}
    assert all(part["Action"] == "failed" and part["Status"] == "5.1.1" for part in recipients.values())
    assert "no such user here" in " ".join(text.split()) and "<1@here.example>" in original.as_string()
    assert len(mta.wait_log("status=bounced", 2)) == 2  # told once they are recorded: the report may be faster
    mta.wait_empty()


def test_an_address_that_needs_smtputf8_bounces_alone(mta, sink):
    server = sink()                             # without SMTPUTF8
    mta.start(server.relay())
    mta.drop(letter(envelope_to=["b@there.example", "j\u00fcrgen@there.example", "c@b\u00fccher.example"]))
    first, report = server.wait(2)
    assert sorted(first["rcpts"]) == ["b@there.example", "c@xn--bcher-kva.example"] and report["sender"] == ""
    bounced, = mta.grep("status=bounced")
    assert "to=<j\u00fcrgen@there.example>" in bounced and "dsn=5.6.7" in bounced


def test_null_sender_is_never_answered(mta, sink):
    server = sink("-x", "*=550 5.1.1 no such user here")
    mta.start(server.relay())
    mta.drop(letter(sender="", envelope_to=["nobody@there.example"]))
    mta.wait_log("status=bounced")
    mta.wait_empty()
    assert server.count() == 0


def test_op15_a_bounce_that_bounces_goes_to_the_postmaster(mta, sink):
    server = sink("-x", "nobody*=550 5.1.1 no such user here", "-x", "a@*=550 5.1.1 sender unknown")
    mta.start('postmaster = "chief@here.example"\n' + server.relay())
    mta.drop(letter(envelope_to=["nobody@there.example"]))
    row, = server.wait(1)
    assert row["sender"] == "" and row["rcpts"] == ["chief@here.example"]
    mta.wait_empty()


def test_op15_a_bounce_nobody_takes_is_set_aside(mta, sink):
    server = sink("-x", "*=550 5.1.1 no such user here")
    mta.start(server.relay())
    mta.drop(letter(envelope_to=["nobody@there.example"]))
    mta.wait_empty()
    assert wait_until(lambda: list((mta.spool / "dead").iterdir()))
    assert server.count() == 0


# --- habits of a good client

def test_connections_are_reused_and_renewed(mta, sink):
    server = sink()
    mta.start(server.relay(more="max-connections = 2 reconnect-every = 10"))
    for i in range(100):
        mta.drop(letter(ident=str(i)))
    rows = server.wait(100)
    assert max(int(row["transaction"]) for row in rows) <= 10
    assert 10 <= len({row["session"] for row in rows}) <= 20
    assert all(row["bare"] == "0" for row in rows)


def test_stopping_waits_for_quit_and_no_longer(mta, server):
    """The last session ends when the scheduler has gone: nobody is left to tell, so there is nothing to wait for."""
    def script(s):
        say = s.say
        s.say = lambda text: (text.startswith("221") and s.pause(0.5), say(text))
        s.say("220 slow.example")
        s.serve()

    srv = server(script)
    mta.start(f'server "out" {{ host = "{srv.address}" port = {srv.port} tls = none }}\n')
    mta.drop(letter())
    mta.wait_log("removed")
    begun = time.monotonic()
    assert mta.stop() == 0 and time.monotonic() - begun < 15
    assert srv.sessions[0].commands[-1] == "QUIT"


def test_limit_holds_mail_back(mta, sink):
    server = sink()
    mta.start(server.relay(more='limits = { "5/3s" }'))
    for i in range(15):
        mta.drop(letter(ident=str(i)))
    times = sorted(row["time"] for row in server.wait(15, timeout=30))
    for first, sixth in zip(times, times[5:]):
        assert sixth - first >= 2.99, times


def test_pflogsumm_counts_right(mta, sink):
    server = sink("-o", "slow*=451 4.2.0 later (really)", "-x", "nobody*=550 5.1.1 no such user (none)")
    mta.start(RETRY + server.relay())
    for i in range(10):
        mta.drop(letter(to=f"good{i}@there.example", ident=str(i)))
    for i in range(3):
        mta.drop(letter(to=f"slow{i}@there.example", ident=f"s{i}"))
        mta.drop(letter(to=f"nobody{i}@there.example", ident=f"n{i}"))
    mta.wait_log("status=sent", times=16)       # three of them reports to the sender
    mta.wait_empty()
    text = subprocess.run(["pflogsumm", "--syslog-name=postern", mta.log_path], capture_output=True, text=True, check=True).stdout
    count = {name: int(number) for number, name in re.findall(r"^\s*(\d+)\s+(received|delivered|deferred|bounced)\b", text, re.M)}
    assert count == {"received": 16, "delivered": 16, "deferred": 3, "bounced": 3}, text


def test_json_log_has_the_fields_of_the_text_form_whoever_writes_it(mta):
    """Nobody listens: the scheduler tells the outcome; with the same names as smtpout's."""
    mta.start('log-format = "json"\nserver "out" { method = relay host = "%s" port = 2525 tls = none }\n' % free_address())
    mta.drop("From: a@here.example\nTo: b@there.example\n\nhello\n")
    line = json.loads(mta.wait_log('"status":"deferred"')[0])
    assert line["program"] == "scheduler" and line["event"] == "outcome" and line["queue_id"]
    assert {"time", "host", "pid", "to", "relay", "delay", "delays", "dsn", "text", "server", "attempt", "next"} <= set(line)
    assert line["to"] == "b@there.example" and line["server"] == "out" and line["attempt"] == 1
    assert len(line["delays"].split("/")) == 4 and line["next"].endswith("Z")
    assert "refused" in line["text"]
