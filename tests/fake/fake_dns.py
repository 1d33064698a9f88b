"""A tiny DNS server for one instance: answers from a dictionary, over UDP and TCP, no DNSSEC.

    Dns({("site.example", "MX"): ["10 mx.site.example"], ("mx.site.example", "A"): ["127.0.0.9"]})

Unknown names get NXDOMAIN, known names without that type an empty answer. `anchor(path)` writes a trust anchor for a
zone nobody asks for: with it a validating resolver takes everything else here as unsigned, not as forged.
"""
import socket
import struct
import threading

from fake_smtp import free_address

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "MX": 15, "AAAA": 28}
NAMES = {number: name for name, number in TYPES.items()}
NXDOMAIN = 3


def anchor(path):
    """For dns { trust-anchor-file }."""
    with open(path, "w") as file:
        file.write("unused.example. IN DS 1 13 2 " + "00" * 32 + "\n")
    return path


def encode_name(name):
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def encode_data(kind, text):
    if kind == "A":
        return socket.inet_aton(text)
    if kind == "AAAA":
        return socket.inet_pton(socket.AF_INET6, text)
    if kind == "MX":
        preference, name = text.split()
        return struct.pack(">H", int(preference)) + encode_name(name)
    return encode_name(text)


class Dns:
    def __init__(self, records, address=None, port=5353, ttl=60):
        self.records = {(name.lower(), kind): values for (name, kind), values in records.items()}
        self.ttl = ttl
        self.queries = []
        self.address, self.port = address or free_address(), port
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((self.address, port))
        self.tcp = socket.create_server((self.address, port))
        threading.Thread(target=self._serve_udp, daemon=True).start()
        threading.Thread(target=self._serve_tcp, daemon=True).start()

    @property
    def server(self):
        """For dns { servers }."""
        return f"{self.address}@{self.port}"

    def _serve_udp(self):
        while True:
            try:
                query, peer = self.udp.recvfrom(4096)
                self.udp.sendto(self.answer(query), peer)
            except OSError:
                return

    def _serve_tcp(self):
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            with connection:
                size = connection.recv(2)
                if len(size) == 2:
                    answer = self.answer(connection.recv(struct.unpack(">H", size)[0]))
                    connection.sendall(struct.pack(">H", len(answer)) + answer)

    def answer(self, query):
        ident, flags = struct.unpack(">HH", query[:4])
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1").lower())
            at += 1 + query[at]
        name, question = ".".join(labels), query[12:at + 5]
        kind = NAMES.get(struct.unpack(">H", query[at + 1:at + 3])[0], "?")
        self.queries.append((name, kind))
        answers = b""
        values = self.records.get((name, kind), [])
        for value in values:
            data = encode_data(kind, value)
            answers += b"\xc0\x0c" + struct.pack(">HHIH", TYPES[kind], 1, self.ttl, len(data)) + data
        rcode = 0 if any(known == name for known, _ in self.records) else NXDOMAIN
        authority = b""
        if not values:
            soa = b"\0\0" + struct.pack(">IIIII", 1, 60, 60, 60, 1)
            authority = b"\0" + struct.pack(">HHIH", TYPES["SOA"], 1, 1, len(soa)) + soa
        counts = struct.pack(">HHHH", 1, len(values), 1 if authority else 0, 0)
        return struct.pack(">HH", ident, 0x8480 | (flags & 0x0100) | rcode) + counts + question + answers + authority

    def close(self):
        self.udp.close()
        self.tcp.close()
