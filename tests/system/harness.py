"""One private Postern per test: folder, configuration, spool, processes, log; and the sink it sends to.

    def test_something(mta, sink):
        server = sink()
        mta.start(server.relay("out"))
        mta.drop("From: a@here.example\nTo: b@there.example\n\nhello\n")
        server.wait(1)

POSTERN_BUILD names the build under test. Started as root the instance separates privileges as it would in earnest
(users of `make deps-test`), else it runs as whoever runs the tests.
"""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from fake_smtp import free_address

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("POSTERN_BUILD", ROOT / "build")).resolve()
SINK = BUILD / "tests/fake/sink"
SANITIZED = "asan" in BUILD.name
SLOW = 4 if SANITIZED else 1   # time-outs of tests are multiplied by this

# Nothing of this may ever stand in a log.
ALARMS = re.compile(r"\bBUG\b|Sanitizer|runtime error:|assertion|malformed packet|signal (4|6|7|8|11|31)\b|core dumped", re.I)


def wait_until(condition, timeout=20, what=None):
    """Calls condition until it returns something true, which is returned."""
    deadline = time.monotonic() + timeout * SLOW
    pause = 0.005
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout * SLOW} s for {what or condition}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def listens(address, port):
    """True when something listens there; opens no connection, so no counter moves."""
    table = "/proc/net/tcp6" if ":" in address else "/proc/net/tcp"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    raw = socket.inet_pton(family, address)
    mine = "".join(raw[i:i + 4][::-1].hex() for i in range(0, len(raw), 4)).upper()
    wanted = {f"{mine}:{port:04X}", f"{'0' * len(mine)}:{port:04X}"}
    with open(table) as lines:
        return any(line.split()[1] in wanted and line.split()[3] == "0A" for line in lines if ":" in line[:6])


def processes_naming(text):
    """{pid: command line} of the processes whose command line contains text."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    line = file.read().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if text in line:
                found[int(entry)] = line.strip()
    return found


def dns_section(server, folder):
    """dns {} for an unsigned FakeDns. Its anchor is for a zone nobody asks for: with the system's all would be forged."""
    anchor = Path(folder) / "anchor"
    anchor.write_text("unused.example. IN DS 1 13 2 " + "00" * 32 + "\n")
    anchor.chmod(0o644)
    return f'dns {{ servers = {{ "{server.address}@{server.port}" }} trust-anchor-file = "{anchor}" }}\n'


class Daemon:
    """A program in the foreground, ended by its pid."""

    def __init__(self, argv, folder, name, ready=None, env=None, timeout=20):
        self.output = Path(folder) / f"{name}.out"
        with open(self.output, "wb") as out:
            self.process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=subprocess.STDOUT, env=env, start_new_session=True)
        if ready:
            wait_until(lambda: ready() or self.process.poll() is not None, timeout, f"{name} to be ready")
            assert self.process.poll() is None, f"{name} ended: {self.output.read_text()}"

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, timeout=20):
        """SIGTERM, and SIGKILL when that does not help; returns the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout * SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


class Sink(Daemon):
    """tests/fake/sink on an address of its own. options: see sink.c."""

    def __init__(self, folder, *options, address=None, port=2525, record=False, header="Message-ID"):
        self.address, self.port = address or free_address(), port
        name = f"sink-{self.address}"
        self.ledger_path = Path(folder) / f"{name}.ledger"
        self.records = Path(folder) / f"{name}.messages"
        more = []
        if record:
            self.records.mkdir(exist_ok=True)
            more = ["-r", self.records]
        super().__init__([SINK, "-l", self.ledger_path, "-i", header, *more, *options, f"{self.address}:{port}"], folder,
                         name, lambda: listens(self.address, port))

    def relay(self, name="out", more=""):
        """A server section that relays here."""
        return f'server "{name}" {{ method = relay host = "{self.address}" port = {self.port} tls = none {more} }}\n'

    def ledger(self):
        """What was taken: dictionaries, in order."""
        keys = ["time_ms", "server", "session", "transaction", "bytes", "bare", "id", "mail", "rcpts"]
        rows = []
        for line in self.ledger_path.read_text(errors="surrogateescape").splitlines():
            row = dict(zip(keys, line.split("\t")))
            row["rcpts"] = re.findall(r"<([^>]*)>", row["rcpts"])
            row["sender"] = re.match(r"<([^>]*)>", row["mail"])[1]
            row["time"] = int(row["time_ms"]) / 1000
            rows.append(row)
        return rows

    def count(self):
        with open(self.ledger_path, "rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))

    def wait(self, count=1, timeout=20):
        """Until so many messages have come; returns the ledger."""
        wait_until(lambda: self.count() >= count, timeout, f"{count} messages at {self.address}")
        return self.ledger()

    def messages(self):
        """Recorded messages: [(envelope lines, exact bytes)], in no special order. Needs record=True."""
        found = []
        for path in self.records.iterdir():
            if path.suffix != ".tmp":
                envelope, data = path.read_bytes().split(b"\n\n", 1)
                found.append((envelope.decode(errors="surrogateescape").split("\n"), data))
        return found

    def most_open(self):
        """Ends it, and tells how many connections were open at once. Needs "-c"."""
        self.stop()
        return int(re.search(r"most_open=(\d+)", self.output.read_text())[1])

    def break_it(self):
        self.signal(signal.SIGUSR1)

    def mend_it(self):
        self.signal(signal.SIGUSR2)


class Instance:
    """A private Postern. `allow` may get patterns of alarms that a test provokes on purpose."""

    def __init__(self, build=BUILD, users=None):
        self.dir = Path(tempfile.mkdtemp(prefix="postern-test-"))
        self.dir.chmod(0o755)
        self.conf = self.dir / "postern.conf"
        self.spool = self.dir / "spool"
        self.log_path = self.dir / "log"
        self.bin = Path(build) / "sbin/postern"
        self.users = users                      # None: the defaults; (user, smtp-user, drop-group)
        self.process = None
        self.dropped = 0
        self.allow = []
        self.env = {}                           # more of an environment
        self.log_seen = 0

    def open_to_all(self):
        """Other users are to run the programs: a copy, when the build's folder is closed to them (below /root)."""
        build = self.bin.parent.parent
        if not all(folder.stat().st_mode & 0o001 for folder in (build, *build.parents)):
            for part in ("sbin", "libexec", "share"):
                shutil.copytree(build / part, self.dir / "build" / part)
            self.bin = self.dir / "build/sbin/postern"
        return self

    # --- configuration
    def configure(self, text):
        """Writes the configuration: `text`, and what a test needs that it does not set itself."""
        defaults = {"hostname": '"mail.here.example"', "spool": f'"{self.spool}"', "log": f'"{self.log_path}"', "workers": "1"}
        if self.users:
            defaults.update(zip(("user", "smtp-user", "drop-group"), (f'"{u}"' for u in self.users)))
        lines = [f"{name} = {value}\n" for name, value in defaults.items()
                 if not re.search(rf"^\s*{name}\s*=", text, re.M)]
        self.conf.write_text("".join(lines) + text)
        return self

    # --- running it
    def environment(self, **more):
        env = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TZ", "LD_PRELOAD")}
        if SANITIZED:
            env["ASAN_OPTIONS"] = "abort_on_error=0:exitcode=70:detect_leaks=1"
            env["LSAN_OPTIONS"] = f"suppressions={ROOT}/tests/lsan.suppressions:print_suppressions=0"
            env["UBSAN_OPTIONS"] = "print_stacktrace=1"
        env.update(self.env)
        env.update(more)
        return env

    def start(self, text=None, timeout=20):
        """`postern run` in the foreground; returns when it says (as it would to systemd) that mail can flow."""
        if text is not None:
            self.configure(text)
        notify = self.dir / "notify"
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(notify))
            ready.settimeout(0.2)
            with open(self.dir / "stderr", "ab") as err:
                self.process = subprocess.Popen([str(self.bin), "-c", str(self.conf), "run"], stdin=subprocess.DEVNULL,
                                                stdout=err, stderr=err, start_new_session=True,
                                                env=self.environment(NOTIFY_SOCKET=str(notify)))
            deadline = time.monotonic() + timeout * SLOW
            while True:
                try:
                    if b"READY=1" in ready.recv(4096):
                        return self
                except TimeoutError:
                    pass
                assert self.process.poll() is None, f"did not start: {self.stderr()}{self.log()[-2000:]}"
                assert time.monotonic() < deadline, f"not ready: {self.stderr()}{self.log()[-2000:]}"

    def stop(self, timeout=30):
        """SIGTERM to what start() started; returns its exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(timeout * SLOW)
        except subprocess.TimeoutExpired as e:
            self.kill_all()
            raise AssertionError(f"did not stop in {timeout * SLOW} s") from e
        self.process = None
        return status

    def restart(self):
        self.stop()
        return self.start()

    def postern(self, *arguments, check=False, timeout=60, **options):
        """The operator's command, for this instance: CompletedProcess with text."""
        done = subprocess.run([str(self.bin), "-c", str(self.conf), *map(str, arguments)], capture_output=True, text=True,
                              timeout=timeout * SLOW, env=self.environment(), **options)
        assert not check or done.returncode == 0, f"postern {arguments}: {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def json(self, *arguments):
        """Objects of `postern ARGUMENTS --json`, one a line."""
        text = self.postern(*arguments, "--json", check=True).stdout
        return [json.loads(line) for line in text.splitlines() if line.strip()]

    def status(self):
        return self.json("status")[0]

    def queue(self):
        return self.json("queue")

    def pids(self, name=None):
        """{pid: process name} of the living processes of this instance."""
        found = {}
        for pid, line in processes_naming(str(self.dir)).items():
            program = os.path.basename(line.split()[0])
            if program in ("master", "pickup", "scheduler", "resolver", "limiter", "smtpout") and name in (None, program):
                found[pid] = program
        return found

    def kill(self, name, number=signal.SIGKILL):
        """Signals every process of that name; returns their pids."""
        pids = self.pids(name)
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        return list(pids)

    def kill_all_processes(self):
        """kill -9 of master and its children, master first."""
        for name in ("master", None):
            self.kill(name)
        self.process.wait()
        wait_until(lambda: not self.pids(), what="killed processes to be gone")
        self.process = None

    def kill_all(self):
        """What is left after a failure; by pid, children of this instance only."""
        for pid in processes_naming(str(self.dir)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process:
            self.process.wait()
            self.process = None

    # --- mail
    def drop(self, message, name=None):
        """Puts one message into drop/ by rename; LF is as good as CRLF. Returns the file's name."""
        self.dropped += 1
        name = name or f"m{self.dropped}"
        outside = self.dir / f"new-{self.dropped}"
        outside.write_bytes(message.encode() if isinstance(message, str) else message)
        outside.chmod(0o644)
        outside.rename(self.spool / "drop" / name)
        return name

    def drop_many(self, count, make):
        """Drops make(0) ... make(count - 1)."""
        for i in range(count):
            self.drop(make(i))

    def wait_empty(self, timeout=20):
        """Until nothing is left in drop/, incoming/ and queue/."""
        def is_empty():
            return not any(files for part in ("drop", "incoming", "queue")
                           for _, _, files in os.walk(self.spool / part))
        wait_until(is_empty, timeout, "an empty spool")

    # --- log
    def log(self):
        try:
            return self.log_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def stderr(self):
        try:
            return (self.dir / "stderr").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def grep(self, pattern):
        """Log lines that match."""
        return [line for line in self.log().splitlines() if re.search(pattern, line)]

    def wait_log(self, pattern, times=1, timeout=20):
        """Until so many log lines match; returns them."""
        return wait_until(lambda: len(found := self.grep(pattern)) >= times and found, timeout, f"{times} × /{pattern}/ in the log")

    # --- the end
    def close(self):
        """Stops it and checks what must hold after every test; removes the folder when it does."""
        problems = []
        try:
            if self.process is not None and self.stop() != 0:
                problems.append("did not end with status 0")
        except AssertionError as e:
            problems.append(str(e))
        left = wait_gone(str(self.dir))
        if left:
            problems.append(f"processes left: {left}")
            self.kill_all()
        alarms = [line for line in (self.log() + self.stderr()).splitlines()
                  if ALARMS.search(line) and not any(re.search(p, line) for p in self.allow)]
        if alarms:
            problems.append("alarming log lines:\n" + "\n".join(alarms[:20]))
        assert not problems, "\n".join(problems)

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def wait_gone(text, timeout=5):
    """{} once no process names text; else those that stay."""
    deadline = time.monotonic() + timeout
    while (left := processes_naming(text)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left
