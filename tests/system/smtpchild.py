"""smtpout alone: this side plays master and scheduler, tests/fake the servers.

    with Smtpout(folder, server.relay()) as out:
        reports = out.deliver(message(b"Subject: x\r\n\r\nhello\r\n", ["b@there.example"]), hosts=[("mx", ["127.0.0.2"])])
"""
import itertools
import os
import random
import socket
import time
from pathlib import Path

from childproc import Child

CAUSES = ["none", "dns", "connect", "tls", "auth", "greeting", "reply", "protocol", "lost", "unknown", "capability", "local"]
VERDICTS = [None, "delivered", "temporary", "permanent", "unknown", "unsent"]
SENT, DEFERRED, BOUNCED, PASSED_ON, IGNORED = 1, 2, 3, 4, 5


TLS_NONE, TLS_OPPORTUNISTIC, TLS_REQUIRE, TLS_VERIFY, TLS_DANE, TLS_UNSET = range(6)


def fnv1a(data):
    value = 0xcbf29ce484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001b3) & 0xffffffffffffffff
    return value


def server_key(name):
    """conf_server_key()"""
    value = 0x811c9dc5
    for byte in name.encode():
        value = ((value ^ byte) * 0x01000193) & 0xffffffff
    return value


def id_text(number):
    return "".join("0123456789ABCDEFGHIJKLMNOPQRSTUV"[number >> shift & 31] for shift in range(60, -1, -5))


def encode_hosts(hosts):
    """[(name, [address, ...]), ...] as lib/hosts.c does. A third element: TLSA records [(usage, selector, matching, data),
    ...], none for records of no use. A fourth: whose they are."""
    out = bytes([len(hosts)])
    for preference, (name, addresses, *dane) in enumerate(hosts):
        raw = name.encode()
        flags = 0 if not dane else 5 if dane[0] else 3
        out += preference.to_bytes(2, "big") + bytes([flags, len(raw)]) + raw + bytes([len(addresses)])
        for address in addresses:
            six = ":" in address
            out += bytes([6 if six else 4]) + socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, address)
        if flags == 5:
            base = dane[1].encode() if len(dane) > 1 else b""
            records = b"".join(bytes(numbers) + len(data).to_bytes(2, "big") + data for *numbers, data in dane[0])
            out += bytes([len(base)]) + base + len(records).to_bytes(2, "big") + records
    return out


class Smtpout(Child):
    """`servers`: server sections. After start() the scheduler has been told of."""

    def __init__(self, folder, servers, more="", **options):
        self.folder = Path(folder)
        (self.folder / "spool/queue").mkdir(parents=True, exist_ok=True)
        self.numbers, self.ids = itertools.count(1), itertools.count((int(time.time() * 1e6) << 12) + random.randrange(4096), 4096)
        self.board = os.memfd_create("board", os.MFD_ALLOW_SEALING)
        os.ftruncate(self.board, 4096 * 16)
        text = f'hostname = "mail.here.example"\nspool = "{self.folder}/spool"\nlog = "stderr"\n{more}{servers}'
        options.setdefault("extra", os.memfd_create("secrets"))     # nobody logs in
        super().__init__("smtpout", text, folder, boards=[self.board], **options)

    def queue(self, body, rcpts, sender="a@here.example", flags=None):
        """Writes a queue file; returns its id."""
        number = next(self.ids)
        if flags is None:
            words = [w for w, on in (("dots", body.startswith(b".") or b"\n." in body), ("8bit", any(c > 127 for c in body))) if on]
            flags = " ".join(words)
        head = (f"postern 1\nid={id_text(number)}\narrival={int(time.time() * 1000)}\nuid=0\nsize={len(body)}\nflags={flags}\n"
                f"sender={sender}\n" + "".join(f"rcpt={r}\n" for r in rcpts)).encode()
        path = self.queue_path(number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(head + b"sum=%016x\n\n" % fnv1a(head) + body + b"end\n")
        return number

    def queue_path(self, number):
        shard = (number >> 12) // 4000000 % 256
        for name in (f"{shard:02X}", f"{shard:02x}"):
            if (self.spool / "queue" / name).exists():
                return self.spool / "queue" / name / id_text(number)
        return self.spool / "queue" / f"{shard:02X}" / id_text(number)

    def connect(self, hosts, server="out", tls=None):
        session = next(self.numbers)
        self.send("CONNECT", session=session, server=server_key(server), destination=3, site=4,
                  tls=TLS_UNSET if tls is None else tls, stepwise=0, hosts=encode_hosts(hosts))
        return session

    def give(self, session, number, rcpts=(0,), group=0, attempt=1):
        now = int(time.time() * 1000)
        self.send("DELIVER", session=session, queue_id=number, group=group, attempt=attempt, arrived_ms=now - 1200,
                  scheduler_ms=now - 1000, active_ms=now - 20, rcpts=list(rcpts))

    def hang_up(self, session):
        self.send("HANGUP", session=session)

    def acknowledge(self, *reports, disposition=None, seconds=0):
        default = {"delivered": SENT, "temporary": DEFERRED, "permanent": BOUNCED, "unknown": DEFERRED, "unsent": IGNORED}
        triples = []
        for r in reports:
            triples += [r["sequence"], disposition or default[r["verdict"]], seconds]
        self.send("REPORT_ACK", triples=triples)

    def next(self, timeout=10):
        """(message name, fields) with verdicts and causes as words."""
        name, fields = self.receive(timeout=timeout)
        if "cause" in fields:
            fields["cause"] = CAUSES[fields["cause"]]
        if "verdict" in fields:
            fields["verdict"] = VERDICTS[fields["verdict"]]
        return name, fields

    def until(self, wanted, timeout=10, also=None):
        """Everything up to and with the first message of that name; others go to `also`."""
        while True:
            name, fields = self.next(timeout)
            if name == wanted:
                return fields
            if also is not None:
                also.append((name, fields))

    def deliver(self, number, hosts, rcpts=(0,), timeout=10):
        """One session for one delivery. Returns ({recipient: report}, SESSION_DOWN's fields)."""
        session = self.connect(hosts)
        self.give(session, number, rcpts)
        self.hang_up(session)
        seen = []
        down = self.until("SESSION_DOWN", timeout, seen)
        reports = [fields for name, fields in seen if name == "REPORT"]
        if not reports:                     # the session was over before DELIVER came
            reports = [self.until("REPORT", timeout)]
        assert [r["last"] for r in reports] == [0] * (len(reports) - 1) + [1], reports
        self.acknowledge(*reports)
        found = {}
        for r in reports:
            for rcpt in r["rcpts"]:
                assert rcpt not in found, reports
                found[rcpt] = r
        assert sorted(found) == sorted(rcpts), reports
        return found, down
