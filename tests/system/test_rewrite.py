"""A server that insists on a sender: what arrives there, byte for byte, and what stays as it was everywhere else. The many
shapes of a header are in tests/unit/lib_rewrite_test.c."""
import email
import json
import re

import peers
import pytest
from test_smtp import section, server, smtpout, verdicts       # noqa: F401 (fixtures)

INSIST = 'tls = none rewrite-sender = "me@isp.example"'
FROM = b"From: Ann <a@here.example>\r\n"
NEW_FROM = b"From: Ann <me@isp.example>\r\nReply-To: Ann <a@here.example>\r\n"
HEAD = b"Received: by x\r\n\tid 1; now\r\n%sTo: b@there.example\r\nSubject: x\r\n\r\n"
SMALL = b"hello\r\n"
ALL = ["PIPELINING", "SIZE 1000000000", "8BITMIME"]


def serving(*extensions):
    def script(s):
        s.say("220 fake.example")
        s.serve(extensions=list(extensions))
    return script


def send(smtpout, srv, body, more=INSIST, **options):
    out = smtpout(section(more=more))
    number = out.queue(body, ["b@there.example"], **options)
    outcome, _ = out.deliver(number, [("mx.there.example", [srv.address])], timeout=30)
    assert verdicts(outcome) == ["delivered"]
    return srv.wait(1)[0]


BODIES = {"small": SMALL, "none": b"", "dots": b".\r\n..\r\nx\r\n.\r\n", "no line end": b"x", "like a header": b"From: z@z.example\r\n",
          "a chunk": b"y" * 998 + b"\r\n", "large": (b"z" * 76 + b"\r\n") * 20000, "large with dots": (b".z\r\n" + b"z" * 76 + b"\r\n") * 20000}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("extensions", [ALL, []], ids=["all", "none"])
def test_envelope_and_from(smtpout, server, body, extensions):
    srv = server(serving(*extensions))
    message = send(smtpout, srv, HEAD % FROM + body)
    wanted = HEAD % NEW_FROM + body
    assert message.data == wanted + (b"" if wanted.endswith(b"\r\n") else b"\r\n")
    assert message.mail == "<me@isp.example>" + (f" SIZE={len(wanted)}" if extensions else "")
    raw = srv.sessions[0].received.split(b"DATA\r\n", 1)[1]
    assert len(re.findall(rb"(?:^|\r\n)\.\r\n", raw)) == 1


@pytest.mark.parametrize("count", [300, 1000, 5000, 60000])
def test_large_header(smtpout, server, count):
    """Longer than what is read at first, and than what is sent at once; a dot may begin its lines."""
    filler = b"".join(b".X-%d: %s\r\n" % (i, b"x" * 50) for i in range(count))
    message = send(smtpout, server(serving(*ALL)), filler + HEAD % FROM + SMALL)
    assert message.data == filler + HEAD % NEW_FROM + SMALL


def test_header_alone(smtpout, server):
    message = send(smtpout, server(), b"Subject: x\r\n" + FROM)
    assert message.data == b"Subject: x\r\n" + NEW_FROM


@pytest.mark.parametrize("more, sender, mail, data", [
    ('rewrite = never', "a@here.example", "a@here.example", FROM),
    ('rewrite = always allowed-senders = { "here.example" }', "a@here.example", "me@isp.example", NEW_FROM),
    ('allowed-senders = { "here.example" }', "a@here.example", "a@here.example", FROM),
    ('allowed-senders = { "bounces@here.example" }', "bounces@here.example", "bounces@here.example", NEW_FROM),
    ('allowed-senders = { "a@here.example" }', "bounces@here.example", "me@isp.example", FROM),
    ('', "ME@isp.example", "ME@isp.example", NEW_FROM),
    ('rewrite = always', "", "", FROM),                     # the null sender is never touched
])
def test_when(smtpout, server, more, sender, mail, data):
    message = send(smtpout, server(), HEAD % FROM + SMALL, more=f"{INSIST} {more}", sender=sender)
    assert message.mail.split()[0] == f"<{mail}>" and message.data == HEAD % data + SMALL


def test_eight_bits_besides(smtpout, server):
    """A server that insists on the sender and does not do 8BITMIME either."""
    head = "From: Jürgen <a@here.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n".encode()
    text = "Grüße\r\n" * 20000
    message = send(smtpout, server(serving("PIPELINING")), head + b"Content-Transfer-Encoding: 8bit\r\n\r\n" + text.encode())
    assert message.mail == "<me@isp.example>"
    assert message.data.startswith("From: Jürgen <me@isp.example>\r\nReply-To: Jürgen <a@here.example>\r\n".encode())
    parsed = email.message_from_bytes(message.data)
    assert parsed["Content-Transfer-Encoding"] == "quoted-printable" and parsed.get_payload(decode=True) == text.encode()


def test_domain_in_other_letters(smtpout, server):
    message = send(smtpout, server(), HEAD % FROM + SMALL, more='tls = none rewrite-sender = "me@bücher.example"')
    assert message.mail.split()[0] == "<me@xn--bcher-kva.example>"
    assert message.data == HEAD % NEW_FROM.replace(b"isp", b"xn--bcher-kva") + SMALL


LETTER = """X-Sender: <a@here.example>
%sFrom: =?utf-8?Q?J=C3=BCrgen_=22J=22?=
 <jb@here.example>
Sender: "S, s" <s@here.example>
To: <b@there.example>
Date: Sat, 21 Nov 2026 15:04:05 +0000
Message-ID: <1@here.example>
Subject: x

.dot
From: me
"""


def letter(*rcpts):
    return LETTER % "".join(f"X-Receiver: <{rcpt}>\n" for rcpt in rcpts)


def test_postfix_insists_and_the_next_server_does_not(mta, peer, sink):
    """One message, two ways: what Postfix gets is rewritten; what the queue keeps and the next server gets is not."""
    postfix = peer(peers.Postfix, more="smtpd_sender_restrictions = check_sender_access inline:{{me@isp.example=OK}}, reject")
    other = sink(record=True)
    mta.start(postfix.relay("isp", 'tls = none rewrite-sender = "me@isp.example" exclude-domains = { "other.example" }') +
              other.relay("other"))
    mta.drop(letter("b@there.example", "c@other.example"))
    there, = postfix.wait(1)
    other.wait(1)
    (envelope, elsewhere), = other.messages()
    assert any("<a@here.example>" in line for line in envelope)
    elsewhere = elsewhere.replace(b"\r\n", b"\n")
    own = elsewhere.index(b"Received: by ")
    wanted = elsewhere[own:].replace(b"From: =?utf-8?Q?J=C3=BCrgen_=22J=22?=\n <jb@here.example>\nSender: \"S, s\" <s@here.example>\n",
                                     b"From: =?utf-8?Q?J=C3=BCrgen_=22J=22?=\n <me@isp.example>\n"
                                     b"Reply-To: =?utf-8?Q?J=C3=BCrgen_=22J=22?=\n <jb@here.example>\n")
    assert wanted != elsewhere[own:] and there.endswith(wanted)
    assert there.startswith(b"Return-Path: <me@isp.example>\n")
    mta.wait_empty()


def test_a_bounce_goes_to_who_sent_it(mta, server, sink):
    def refuses(s):
        s.say("220 isp.example")
        s.serve(rcpt=lambda address: "550 5.1.1 nobody here")
    isp, here = server(refuses), sink(record=True)
    mta.start(f'server "isp" {{ host = "{isp.address}" port = {isp.port} {INSIST} exclude-domains = {{ "here.example" }} }}\n' +
              here.relay("here"))
    mta.drop(letter("b@there.example"))
    row, = here.wait(1)
    assert (row["sender"], row["rcpts"]) == ("", ["a@here.example"])
    (_, bounce), = here.messages()
    assert b"jb@here.example" in bounce and b"me@isp.example" not in bounce
    assert any("<me@isp.example>" in command for command in isp.sessions[0].commands)
    mta.wait_empty()


def test_worked_out_at_each_attempt(mta, server):
    """A changed setting counts for mail that waits already."""
    refusals = ["450 4.2.0 later"]

    def script(s):
        s.say("220 isp.example")
        s.serve(rcpt=lambda address: refusals.pop() if refusals else None)
    isp = server(script)
    text = f'server "isp" {{ host = "{isp.address}" port = {isp.port} tls = none %s }}\nretry {{ after = {{ "3s" }} }}\n'
    mta.start(text % "")
    mta.drop(letter("b@there.example"))
    mta.wait_log(r"status=deferred")
    mta.configure(text % 'rewrite-sender = "me@isp.example"')
    mta.postern("reload", check=True)
    message, = isp.wait(1)
    assert any("<a@here.example>" in command for command in isp.sessions[0].commands)
    assert message.mail.startswith("<me@isp.example>") and b"\nReply-To: =?utf-8?Q?J" in message.data


def test_route_shows_it(mta):
    mta.configure('''
server "isp" { host = "192.0.2.1" rewrite-sender = "me@isp.example" allowed-senders = { "ok.example" } }
server "strict" { host = "192.0.2.2" rewrite-sender = "you@strict.example" rewrite = always }
server "never" { host = "192.0.2.3" rewrite-sender = "you@strict.example" rewrite = never }
server "direct" { method = direct }
''')

    def senders(sender):
        servers = json.loads(mta.postern("route", sender, "b@there.example", "--json", check=True).stdout)["servers"]
        return [s["sender"] for s in servers]

    assert senders("a@here.example") == ["me@isp.example", "you@strict.example", "a@here.example", "a@here.example"]
    assert senders("a@ok.example") == ["a@ok.example", "you@strict.example", "a@ok.example", "a@ok.example"]
    assert senders("") == ["", "", "", ""]
    lines = mta.postern("route", "a@here.example", "b@there.example", check=True).stdout.splitlines()
    assert lines[2:6:2] == ["    the sender becomes me@isp.example, in From as well: rewrite = unless-allowed",
                            "    the sender becomes you@strict.example, in From as well: rewrite = always"]
    words = mta.postern("route", "a@ok.example", "b@there.example", check=True).stdout
    assert "    the sender stays: allowed-senders has ok.example\n" in words
    words = mta.postern("route", "<>", "b@there.example", check=True).stdout
    assert words.count("    the sender stays: the null sender is never rewritten\n") == 2


def test_postern_test_sends_as_mail_would_go(mta, server):
    isp = server(serving(*ALL))
    mta.configure(f'server "isp" {{ host = "{isp.address}" port = {isp.port} {INSIST} }}\n')
    done = mta.postern("test", "isp", "--from", "a@here.example", "--to", "b@there.example", check=True)
    message, = isp.wait(1)
    assert message.mail.startswith("<me@isp.example>") and b"From: <me@isp.example>\r\n" in message.data
    assert "the sender becomes me@isp.example" in done.stdout
