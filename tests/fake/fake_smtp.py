"""A scripted SMTP server: says exactly what a test wants a server to say, and keeps every byte it was sent.

    def greets_late(s):                  # one call per connection, in a thread of its own
        s.pause(3)
        s.say("220 late.example")
        s.serve(rcpt=lambda a: "550 5.1.1 no" if "bad" in a else None)

    with Server(greets_late) as server:  # server.address, server.port; server.messages once they have arrived

A script that raises has failed: Server.close() raises its error again in the test. A client that hangs up early is no
error: Session.closed is raised and ends the script.
"""
import random
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field

EXTENSIONS = ["PIPELINING", "SIZE 104857600", "8BITMIME", "ENHANCEDSTATUSCODES"]


def free_address():
    """An address of 127/8 that nothing else uses: every server can then have the same port."""
    return "127.%d.%d.%d" % (random.randint(16, 250), random.randint(0, 250), random.randint(1, 250))


@dataclass
class Message:
    """One transaction that was accepted: commands' arguments as sent, the exact bytes with dots unstuffed."""
    mail: str
    rcpts: list
    data: bytes
    session: int
    time: float


class Closed(Exception):
    """The client has gone."""


@dataclass
class Session:
    server: object
    sock: socket.socket
    number: int
    peer: tuple
    buffer: bytes = b""
    received: bytes = b""                       # everything the client sent, TLS removed
    commands: list = field(default_factory=list)
    messages: list = field(default_factory=list)
    tls: object = None                          # the SSLSocket after starttls()
    closed = Closed

    # --- what scripts are made of
    def say(self, text, end="\r\n"):
        """A line, or several separated by newlines."""
        self.send("\r\n".join(text.split("\n")) + end)

    def send(self, data):
        try:
            self.sock.sendall(data.encode() if isinstance(data, str) else data)
        except OSError as e:
            raise Closed from e

    def drip(self, text, seconds_between=0.2):
        """One byte at a time."""
        for byte in text.encode() + b"\r\n":
            self.send(bytes([byte]))
            self.pause(seconds_between)

    def pause(self, seconds):
        if self.server.stopping.wait(seconds):
            raise Closed

    def close(self):
        """Hang up; the script ends."""
        raise Closed

    def reset(self):
        """Hang up with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raise Closed

    def read(self):
        try:
            data = self.sock.recv(65536)
        except OSError as e:
            raise Closed from e
        if not data:
            raise Closed
        self.received += data
        self.buffer += data

    def line(self):
        """The next line, without its end."""
        while b"\n" not in self.buffer:
            self.read()
        line, self.buffer = self.buffer.split(b"\n", 1)
        text = line.rstrip(b"\r").decode("utf-8", "surrogateescape")
        self.commands.append(text)
        return text

    def expect(self, pattern):
        """The next line, which must match."""
        line = self.line()
        assert re.match(pattern, line, re.I), f"expected {pattern}, got {line!r}"
        return line

    def data(self):
        """Message bytes up to the final dot, dots unstuffed."""
        while not self.buffer.startswith(b".\r\n") and b"\r\n.\r\n" not in self.buffer:
            self.read()
        if self.buffer.startswith(b".\r\n"):
            body, self.buffer = b"", self.buffer[3:]
        else:
            body, self.buffer = self.buffer.split(b"\r\n.\r\n", 1)
            body += b"\r\n"
        return re.sub(rb"(^|\r\n)\.", rb"\1", body)

    def starttls(self, reply="220 2.0.0 go"):
        """Answer STARTTLS and shake hands with the server's context."""
        self.say(reply)
        self.buffer = b""
        try:
            self.sock = self.tls = self.server.tls.wrap_socket(self.sock, server_side=True)
        except (OSError, ssl.SSLError) as e:
            self.server.tls_errors.append(str(e))
            raise Closed from e

    def until_starttls(self, extensions=("STARTTLS",), reply="220 go"):
        """Greet, offer STARTTLS, wait for it, and answer it without shaking hands."""
        self.say("220 hi")
        self.ehlo(extensions)
        self.expect("STARTTLS")
        self.say(reply)

    def ehlo(self, extensions=None, name="fake.example"):
        """Greeting's second half: wait for EHLO or HELO and answer it."""
        line = self.expect("EHLO |HELO ")
        self.say_ehlo(line, EXTENSIONS if extensions is None else extensions, name)

    def say_ehlo(self, line, extensions, name="fake.example"):
        lines = [name] + (list(extensions) if line.upper().startswith("EHLO") else [])
        self.say("\n".join("250%s%s" % (" " if i == len(lines) - 1 else "-", x) for i, x in enumerate(lines)))

    def serve(self, extensions=None, mail=None, rcpt=None, data=None, dot=None):
        """An ordinary server until QUIT. mail(arg), rcpt(arg), data(), dot(message) may return another reply."""
        extensions = EXTENSIONS if extensions is None else extensions
        sender, rcpts = None, []
        while True:
            line = self.line()
            verb = line.upper()
            if verb.startswith(("EHLO", "HELO")):
                self.say_ehlo(line, extensions)
            elif verb == "STARTTLS" and self.server.tls and not self.tls:
                self.starttls()
            elif verb.startswith("MAIL FROM:"):
                reply = mail and mail(line[10:].strip())
                sender, rcpts = line[10:].strip(), []
                self.say(reply or "250 2.1.0 ok")
            elif verb.startswith("RCPT TO:"):
                reply = rcpt and rcpt(line[8:].strip())
                if not reply or reply.startswith("2"):
                    rcpts.append(line[8:].strip())
                self.say(reply or "250 2.1.5 ok")
            elif verb == "DATA":
                reply = (data and data()) or ("354 go" if rcpts else "554 5.5.1 no valid recipients")
                self.say(reply)
                if not reply.startswith("3"):
                    continue
                message = Message(sender, rcpts, self.data(), self.number, time.time())
                reply = (dot and dot(message)) or "250 2.0.0 taken"
                if reply.startswith("2"):
                    self.messages.append(message)
                    self.server.add(message)
                self.say(reply)
            elif verb == "QUIT":
                self.say("221 2.0.0 bye")
                return
            elif verb in ("RSET", "NOOP"):
                self.say("250 2.0.0 ok")
            else:
                self.say("502 5.5.1 unknown command")


def ordinary(session):
    session.say("220 fake.example ESMTP")
    session.serve()


def breaks_tls(session):
    """Agrees to TLS, and breaks it once the client's hello is there: what comes sooner would be an injection."""
    session.until_starttls()
    session.read()
    session.send(b"this is no TLS record at all\r\n")
    session.close()


class Server:
    """script: a function of Session, or a list of them (one per connection, the last repeats)."""

    def __init__(self, script=ordinary, address=None, port=2525, tls=None):
        self.scripts = script if isinstance(script, list) else [script]
        self.tls = tls                          # ssl.SSLContext for starttls()
        self.sessions, self.messages, self.errors, self.tls_errors = [], [], [], []
        self.stopping = threading.Event()
        self.changed = threading.Condition()
        family = socket.AF_INET6 if address and ":" in address else socket.AF_INET
        self.listener = socket.create_server((address or free_address(), port), family=family, backlog=1024)
        self.address, self.port = self.listener.getsockname()[:2]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, peer = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = Session(self, sock, len(self.sessions), peer)
            self.sessions.append(session)
            threading.Thread(target=self._run, args=(session,), daemon=True).start()

    def _run(self, session):
        try:
            self.scripts[min(session.number, len(self.scripts) - 1)](session)
        except Closed:
            pass
        except Exception as e:  # the test must hear of it
            self.errors.append(e)
        finally:
            session.sock.close()

    def add(self, message):
        with self.changed:
            self.messages.append(message)
            self.changed.notify_all()

    def wait(self, count=1, timeout=20):
        """Until so many messages were accepted; returns them."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.messages) >= count, timeout):
                raise AssertionError(f"{len(self.messages)} of {count} messages after {timeout} s")
            return list(self.messages)

    def close(self):
        self.stopping.set()
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for session in self.sessions:
            try:
                session.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        if self.errors:
            raise self.errors[0]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        try:
            self.close()
        except Exception:
            if exception[0] is None:
                raise
