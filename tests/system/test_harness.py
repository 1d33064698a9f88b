"""The test tools themselves: what they say must be true before it is held against Postern."""
import smtplib

import harness


def send(address, port, data, sender="a@here.example", rcpt="b@there.example"):
    with smtplib.SMTP(address, port) as client:
        client.sendmail(sender, [rcpt], data)


def test_sink_keeps_exact_bytes(sink):
    server = sink(record=True)
    send(server.address, server.port, b"Message-ID: <1@x>\r\n\r\n.dot\r\n..two\r\n\xff 8bit\r\n.\r\n")
    row, = server.wait(1)
    assert row["id"] == "<1@x>" and row["sender"] == "a@here.example" and row["rcpts"] == ["b@there.example"]
    envelope, data = server.messages()[0]
    assert data == b"Message-ID: <1@x>\r\n\r\n.dot\r\n..two\r\n\xff 8bit\r\n.\r\n"
    assert f"server {server.address}:{server.port}" in envelope


def test_scripted_server_keeps_exact_bytes(server):
    fake = server()
    send(fake.address, fake.port, b"Subject: x\r\n\r\n.dot\r\n..two\r\n.\r\n")
    assert fake.wait(1)[0].data == b"Subject: x\r\n\r\n.dot\r\n..two\r\n.\r\n"


def test_sink_breaks_and_mends(sink):
    server = sink("-m", "refuse")
    server.break_it()
    harness.wait_until(lambda: not harness.listens(server.address, server.port))
    server.mend_it()
    harness.wait_until(lambda: harness.listens(server.address, server.port))
    send(server.address, server.port, b"\r\nx\r\n")
    server.wait(1)
