"""A name server that does what it is told: honest, silent, broken or lying. Unsigned; see peers.Nsd for DNSSEC.

    dns = FakeDns({"a.example MX": ["10 mx.a.example"], "mx.a.example A": ["192.0.2.1"], "b.example": "servfail"})
    dns.asked          # [("a.example", "MX"), ...] in order

A value is a list of records in presentation form, a word (servfail refused silent nxdomain notcp lie loop short), or a function
(query) -> list, word, or message in bytes. "NAME" alone holds for every type, "*" for what is not named. Names not mentioned
do not exist; a name mentioned with another type has no data. `notcp`: truncated over UDP and TCP refused, so the server opens no TCP port at all.
"""
import socket
import struct
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from fake_smtp import free_address

WORDS = {"servfail": dns.rcode.SERVFAIL, "refused": dns.rcode.REFUSED, "nxdomain": dns.rcode.NXDOMAIN}

class FakeDns:
    def __init__(self, zone, address=None, port=5353, is_started=True, has_tcp=True, ttl=30):
        self.zone, self.address, self.port, self.has_tcp = dict(zone), address or free_address(), port, has_tcp
        self.asked, self.lock, self.sockets, self.ttl = [], threading.Lock(), [], ttl
        self.is_running = False
        if is_started:
            self.start()

    def start(self):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((self.address, self.port))
        self.sockets, self.is_running = [udp], True
        threading.Thread(target=self._serve_udp, args=(udp,), daemon=True).start()
        if self.has_tcp:
            tcp = socket.create_server((self.address, self.port))
            self.sockets.append(tcp)
            threading.Thread(target=self._serve_tcp, args=(tcp,), daemon=True).start()

    def stop(self):
        self.is_running = False
        for sock in self.sockets:
            sock.close()
        try:  # a thread inside recvfrom holds the socket: wake it
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", (self.address, self.port))
        except OSError:
            pass

    def count(self, name, kind):
        with self.lock:
            return self.asked.count((name, kind))

    def names(self):
        with self.lock:
            return {name for name, _ in self.asked}

    def conf(self, timeout="10s"):
        return f'dns {{ servers = {{ "{self.address}@{self.port}" }} timeout = "{timeout}" }}\n'

    def _serve_udp(self, sock):
        while self.is_running:
            try:
                wire, peer = sock.recvfrom(4096)
                answer = self._answer(wire, False) if self.is_running and wire else None
                if answer:
                    sock.sendto(answer, peer)
            except OSError:
                return

    def _serve_tcp(self, listener):
        while self.is_running:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_connection, args=(sock,), daemon=True).start()

    def _serve_connection(self, sock):
        with sock, sock.makefile("rb") as stream:
            while (head := stream.read(2)) and len(head) == 2:
                answer = self._answer(stream.read(struct.unpack(">H", head)[0]), True)
                if answer:
                    sock.sendall(struct.pack(">H", len(answer)) + answer)

    def _find(self, query):
        question = query.question[0]
        name, kind = question.name.to_text().rstrip(".").lower() or ".", dns.rdatatype.to_text(question.rdtype)
        with self.lock:
            self.asked.append((name, kind))
        value = self.zone.get(f"{name} {kind}", self.zone.get(name, self.zone.get("*")))
        if callable(value):
            value = value(query)
        if value is None and (name, kind) == (".", "SOA"):
            value = [f". . 1 1 1 1 {self.ttl}"]          # the root, which every server finds
        if value is None:
            exists = name == "." or any(key.split()[0] == name for key in self.zone)
            value = [] if exists else "nxdomain"
        return question, kind, value

    def _answer(self, wire, is_tcp):
        query = dns.message.from_wire(wire)
        question, kind, value = self._find(query)
        if isinstance(value, bytes) or value == "silent":
            return None if value == "silent" else wire[:2] + value[2:]
        response = dns.message.make_response(query, recursion_available=True)
        if value == "nxdomain" or value == []:  # RFC 2308: with the SOA that says how long to remember it
            response.authority.append(dns.rrset.from_text(dns.name.root, self.ttl, "IN", "SOA", f". . 1 1 1 1 {self.ttl}"))
        if isinstance(value, str) and value in WORDS:
            response.set_rcode(WORDS[value])
        elif value == "notcp":
            response.flags |= dns.flags.TC
        elif isinstance(value, str) and value in ("lie", "loop", "short"):
            return self._broken(response, question, value)
        else:
            owner = question.name
            for line in value:
                if line.startswith("CNAME "):
                    response.answer.append(dns.rrset.from_text(owner, self.ttl, "IN", "CNAME", line[6:]))
                    owner = dns.name.from_text(line[6:])
                    target = self.zone.get(f"{line[6:].rstrip('.')} {kind}", [])
                    response.answer.append(dns.rrset.from_text(owner, self.ttl, "IN", kind, *target))
                else:
                    response.answer.append(dns.rrset.from_text(owner, self.ttl, "IN", kind, line if line.endswith(".") or kind != "MX" else line + "."))
        if is_tcp:
            return response.to_wire(max_size=65535)
        try:
            return response.to_wire(max_size=1232)
        except dns.exception.TooBig:
            short = dns.message.make_response(query, recursion_available=True)
            short.flags |= dns.flags.TC
            return short.to_wire()

    def _broken(self, response, question, how):
        """One MX record whose rdata is not what it says."""
        head = response.to_wire()[:12]
        head = head[:6] + b"\0\1\0\0\0\0"
        query = question.name.to_wire() + struct.pack(">HH", 15, 1)
        record = b"\xc0\x0c" + struct.pack(">HHI", 15, 1, self.ttl)
        at = 12 + len(query) + len(record) + 4
        rdata = {"lie": struct.pack(">HH", 500, 10) + b"\x02mx\xc0\x0c",
                 "loop": struct.pack(">HHH", 4, 10, 0xC000 | at),
                 "short": struct.pack(">HB", 1, 0)}[how]
        return head + query + record + rdata
