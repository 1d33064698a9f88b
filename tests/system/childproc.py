"""One child process alone, without master: started with its descriptors, spoken to in packets.

    with Child("resolver", conf_text, folder) as child:
        child.send("RESOLVE", request=1, kind=1, server=0, name="example.com")
        name, fields = child.receive()

The schema is read from lib/msg.def, so there is nothing to keep in step. Vectors are lists, str fields text, bytes bytes.
"""
import fcntl
import os
import re
import select
import signal
import struct
import time
from pathlib import Path

from harness import BUILD, ROOT, SLOW

MAGIC, VERSION, HEAD = 0x504E, 1, struct.Struct(">HBBIIII")
PACKET_MAX = 4096
FD_CONF, FD_CTL_IN, FD_CTL_OUT, FD_EXTRA, FD_SPARE, FD_PEER_FIRST = 4, 5, 6, 7, 8, 16
PEER_DEAD, PEER_ALIVE, PEER_ENDING = 0, 1, 2
ROLES = {name: number for number, name in enumerate(("master", "pickup", "scheduler", "resolver", "limiter", "smtpout"))}
SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}


def read_schema():
    """{NAME: (id, [(type, field), ...])}"""
    text = (ROOT / "lib/msg.def").read_text().replace("\\\n", " ")
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    fields = {name: re.findall(r"F\((\w+),\s*(\w+),\s*\w+\)", body)
              for name, body in re.findall(r"#define MSG_FIELDS_(\w+)\(F\)([^\n]*)", text)}
    return {name: (int(number), fields[name]) for number, name in re.findall(r"MSG\((\d+),\s*(\w+),", text)}


SCHEMA = read_schema()
NAMES = {number: name for name, (number, _) in SCHEMA.items()}


def encode(message, sender, addressee, **values):
    number, fields = SCHEMA[message]
    body = b""
    for kind, name in fields:
        value = values.pop(name)
        if kind in SIZES:
            body += value.to_bytes(SIZES[kind], "big")
        elif kind in ("str", "bytes"):
            raw = value.encode() if isinstance(value, str) else value
            body += len(raw).to_bytes(2, "big") + raw
        else:
            size = SIZES[kind[:-1]]
            body += len(value).to_bytes(2, "big") + b"".join(v.to_bytes(size, "big") for v in value)
    assert not values, f"{message} has no {list(values)}"
    return HEAD.pack(MAGIC, VERSION, number, HEAD.size + len(body), sender, addressee, 0) + body


def decode(packet):
    """(name, fields, sender's generation, addressee's generation)"""
    magic, version, number, length, sender, addressee, _ = HEAD.unpack_from(packet)
    assert (magic, version, length) == (MAGIC, VERSION, len(packet)), packet
    name, at, values = NAMES[number], HEAD.size, {}

    def take(count):
        nonlocal at
        piece = packet[at:at + count]
        assert len(piece) == count, packet
        at += count
        return piece

    for kind, field in SCHEMA[name][1]:
        if kind in SIZES:
            values[field] = int.from_bytes(take(SIZES[kind]), "big")
            continue
        count = int.from_bytes(take(2), "big")
        if kind in ("str", "bytes"):
            raw = take(count)
            values[field] = raw.decode() if kind == "str" else raw
        else:
            size = SIZES[kind[:-1]]
            values[field] = [int.from_bytes(take(size), "big") for _ in range(count)]
    assert at == len(packet), packet
    return name, values, sender, addressee


class Pipe:
    """Both ends, as master keeps them: then neither side ever sees the other go."""

    def __init__(self, size=1 << 20):
        # high numbers: below are the places that the child's descriptors go to
        low = os.pipe2(os.O_DIRECT | os.O_NONBLOCK | os.O_CLOEXEC)
        self.read_end, self.write_end = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 300) for fd in low)
        for fd in low:
            os.close(fd)
        try:
            fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, size)
        except PermissionError:
            pass

    def close(self):
        os.close(self.read_end)
        os.close(self.write_end)


class Child:
    """`peers`: how many partners it has. Plays master on the control pipes, and all partners, with generation `us`.

    wrapper: a command that ends in exec of its arguments ("unshare", "-m", "sh", "-c", '...; exec "$@"', "sh").
    """

    def __init__(self, program, conf, folder, peers=1, generation=1, us=100, workers=1, identity=None, boards=(),
                 extra=None, wrapper=()):
        self.folder, self.generation, self.us = Path(folder), generation, us
        self.control = Pipe(65536), Pipe(65536)         # to the child, from the child
        self.pipes = [(Pipe(), Pipe()) for _ in range(peers)]
        self.program = program
        self.conf = self.folder / "postern.conf"
        self.conf.write_text(conf)
        self.spool = self.folder / "spool"
        for name in ("", "run", "run/empty"):
            (self.spool / name).mkdir(exist_ok=True)
        self.identity, self.boards, self.extra, self.workers = identity, boards, extra, workers
        self.wrapper = list(wrapper)
        self.output = self.folder / f"{program}.out"
        self.status = None
        self.start()

    def start(self):
        """Also after kill(): a successor on the same pipes, unless generation was raised with old packets in them."""
        memfd = os.memfd_create("conf")
        os.write(memfd, self.conf.read_bytes())
        os.lseek(memfd, 0, os.SEEK_SET)
        places = {FD_CONF: memfd, FD_CTL_IN: self.control[0].read_end, FD_CTL_OUT: self.control[1].write_end}
        for k, (to_child, from_child) in enumerate(self.pipes):
            places[FD_PEER_FIRST + 3 * k] = to_child.read_end
            places[FD_PEER_FIRST + 3 * k + 1] = from_child.write_end
        for k, board in enumerate(self.boards):
            places[FD_PEER_FIRST + 3 * k + 2] = board
        if self.extra is not None:
            places[FD_EXTRA] = self.extra
        argv = [BUILD / "libexec/postern" / self.program, "--child", "--index", "0", "--generation", str(self.generation),
                "--workers", str(self.workers), "--spool-root", self.spool, "--conf", self.conf]
        if self.identity:
            uid, gid = self.identity
            argv += ["--uid", str(uid), "--gid", str(gid), "--groups", str(gid)]
        high = {to: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 200) for to, fd in places.items()}
        out = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                   (os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)]
        actions += [(os.POSIX_SPAWN_DUP2, fd, to) for to, fd in high.items()]
        argv = self.wrapper + argv
        self.pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)
        for fd in (*high.values(), out, memfd):
            os.close(fd)
        self.status = None
        self.wait_ready()

    def wait_ready(self, timeout=20):
        name, _ = self.receive(pipe=self.control[1], timeout=timeout)
        assert name == "READY", name
        self.tell_peer(PEER_ALIVE)

    def tell_peer(self, alive, role="scheduler", index=0, generation=None):
        generation = self.us if generation is None else generation
        self.send("PEER", pipe=self.control[0], role=ROLES[role], index=index, generation=generation, alive=alive)

    def send(self, message, pipe=None, peer=0, **values):
        self.send_raw(encode(message, self.us, self.generation, **values), pipe=pipe, peer=peer)

    def send_raw(self, packet, pipe=None, peer=0, timeout=10):
        """Waits while the pipe is full."""
        fd = (pipe or self.pipes[peer][0]).write_end
        while True:
            try:
                os.write(fd, packet)
                return
            except BlockingIOError:
                assert select.select([], [fd], [], timeout * SLOW)[1], f"{self.program} reads nothing\n{self.log()}"

    def receive_all(self, pipe=None, peer=0, timeout=10):
        """(name, fields, sender, addressee) of the next packet."""
        pipe = pipe or self.pipes[peer][1]
        deadline = time.monotonic() + timeout * SLOW
        while True:
            try:
                return decode(os.read(pipe.read_end, PACKET_MAX))
            except BlockingIOError:
                pass
            left = deadline - time.monotonic()
            assert left > 0, f"nothing from {self.program} within {timeout * SLOW} s\n{self.log()}"
            assert not self.has_ended(), f"{self.program} ended with {self.status}\n{self.log()}"
            select.select([pipe.read_end], [], [], min(left, 0.2))

    def receive(self, pipe=None, peer=0, timeout=10):
        return self.receive_all(pipe, peer, timeout)[:2]

    def exchange(self, packets, peer=0, timeout=10):
        """Sends encoded packets as fast as they are taken, until each has its answer; the answers are not looked at. Seconds."""
        to_child, from_child = self.pipes[peer]
        begun, sent, answers = time.monotonic(), 0, 0
        while answers < len(packets):
            try:
                while sent < len(packets):
                    os.write(to_child.write_end, packets[sent])
                    sent += 1
            except BlockingIOError:
                pass
            assert select.select([from_child.read_end], [], [], timeout * SLOW)[0], f"no answer\n{self.log()}"
            try:
                while True:
                    os.read(from_child.read_end, PACKET_MAX)
                    answers += 1
            except BlockingIOError:
                pass
        return time.monotonic() - begun

    def has_ended(self):
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def signal(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout=10):
        deadline = time.monotonic() + timeout * SLOW
        while not self.has_ended():
            assert time.monotonic() < deadline, f"{self.program} does not end\n{self.log()}"
            time.sleep(0.01)
        return self.status

    def kill(self):
        if not self.has_ended():
            self.signal(signal.SIGKILL)
            self.wait()

    def log(self):
        return self.output.read_text(errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        for pipe in (*self.control, *(end for pair in self.pipes for end in pair)):
            pipe.close()
