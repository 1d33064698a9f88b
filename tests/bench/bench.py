#!/usr/bin/env python3
"""Speed of Postern beside Debian's Postfix: same messages, same sink, same disk, connection reuse on, in turns.

Both queues live on a new ext4 as Debian makes it, in a file below /var/tmp, unless --dir names another place or nothing can
be mounted here. A disk's own file system may be any: one without a journal reads the inode of each file deleted in the last
minutes before it makes the next one, 0.2 ms and more, and then it is this that is measured.

Each round measures for both: INJECT (until accepted, delivery held by a stopped sink), DRAIN (the sink goes on; until the
last message is there), THROUGH (injected while delivery runs, until the last is there), CPU of all their processes
per message for each of the three (schedstat), and the sum of their processes' PSS at its peak (sampled in THROUGH only).
Then 100,000 messages that wait for tomorrow: start to first delivery, memory, silence.
"""
import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "fake"), str(TESTS / "system")]

import harness  # noqa: E402
import measure  # noqa: E402
import peers  # noqa: E402
from harness import wait_until  # noqa: E402
from measure import cpu_seconds, pss_mb  # noqa: E402

SENDER, RCPT = "a@here.example", "b@there.example"
MARKS = {"drain": ("≥", 5.0), "drain CPU": ("≤", 0.2), "peak PSS": ("≤", 1.0)}


class Peak(threading.Thread):
    """The highest PSS of a tree while the thread runs."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.mb, self.done = pid, 0.0, threading.Event()
        self.start()

    def run(self):
        while True:
            self.mb = max(self.mb, pss_mb(self.pid))
            if self.done.wait(0.25):
                return

    def stop(self):
        self.done.set()
        self.join()
        return self.mb


# --- the two under test: start(), inject(n) returns when all are accepted, is_empty(), pid

class Postern:
    name = "Postern"

    def __init__(self, folder, sink, size):
        tempfile.tempdir = str(folder)
        self.mta = harness.Instance()
        self.mta.start(f'workers = 0\nserver "sink" {{ method = relay host = "{sink.address}" port = {sink.port} tls = none '
                       f'max-connections = 20 }}\n')
        self.pid = self.mta.process.pid
        self.size, self.count = size, 0
        self.drop, self.incoming, self.new = self.mta.spool / "drop", self.mta.spool / "incoming", self.mta.dir / "new"
        self.new.mkdir()

    def inject(self, count):
        """As a program would: a file each, renamed into drop/."""
        head = f"From: {SENDER}\r\nTo: {RCPT}\r\nSubject: bench\r\nDate: Sat, 21 Nov 2026 12:00:00 +0000\r\n"
        body = filler(self.size)
        for _ in range(count):
            self.count += 1
            name = f"{self.count}"
            with open(self.new / name, "w", newline="") as file:
                file.write(f"{head}Message-ID: <{self.count}@bench.example>\r\n\r\n{body}")
            os.chmod(self.new / name, 0o644)
            os.rename(self.new / name, self.drop / name)
        wait_until(lambda: not any(self.drop.iterdir()) and not any(self.incoming.iterdir()), 120, "all to be accepted")

    def is_empty(self):
        return not any(files for _, _, files in os.walk(self.mta.spool / "queue"))

    def stop(self):
        self.mta.close()
        self.mta.remove()


class Postfix:
    """Tuned: 20 connections from the start, kept; no DNS, no inflow delay, all mail active. Injected by smtp-source over
    20 kept sessions, its fastest way in."""
    name = "Postfix"
    TUNING = """relayhost = [{address}]:{port} | disable_dns_lookups = yes | in_flow_delay = 0 | qmgr_message_active_limit = 200000
qmgr_message_recipient_limit = 200000 | initial_destination_concurrency = 20 | default_destination_concurrency_limit = 20
smtp_destination_concurrency_limit = 20 | smtp_connection_cache_destinations = [{address}]:{port} | default_process_limit = 200
smtp_connection_cache_on_demand = yes | smtpd_client_connection_count_limit = 0 | smtpd_relay_restrictions = permit_mynetworks, reject
virtual_mailbox_domains = | smtp_tls_security_level = none"""

    def __init__(self, folder, sink, size):
        self.peer = peers.Postfix(folder, more=self.TUNING.format(address=sink.address, port=sink.port),
                                  services="smtp unix - - n - - smtp | scache unix - - n - 1 scache")
        self.pid, self.size = self.peer.pid, size

    def inject(self, count):
        head = 150  # what smtp-source adds
        subprocess.run([peers.PEERS / "postfix/usr/sbin/smtp-source", "-d", "-s", "20", "-l", str(max(self.size - head, 1)), "-m", str(count),
                        "-f", SENDER, "-t", RCPT, f"{self.peer.address}:{self.peer.port}"], check=True)

    def is_empty(self):
        return not any(files for part in ("maildrop", "incoming", "active", "deferred")
                       for _, _, files in os.walk(self.peer.folder / "spool" / part))

    def stop(self):
        self.peer.stop()
        shutil.rmtree(self.peer.folder)


def met(is_good):
    return "met" if is_good else "NOT met"


def filler(size):
    line = "x" * 78 + "\r\n"
    return line * (max(size - 300, 0) // len(line) + 1)


# --- one measurement

class BenchSink(harness.Daemon):
    """The fast sink without a ledger: it counts and notes the first and the last arrival."""

    def __init__(self, folder, count, address=None):
        self.address, self.port = address or harness.free_address(), 2525
        super().__init__([harness.SINK, "-q", str(count), f"{self.address}:{self.port}"], folder, f"sink-{self.address}",
                         lambda: harness.listens(self.address, self.port))

    def last_arrival(self, timeout=300):
        """When the last of `count` came, by time.monotonic(); it has ended then."""
        self.process.wait(timeout)
        return int(re.search(r"last_ms=(\d+)", self.output.read_text())[1]) / 1000


def run(kind, folder, count, size):
    """One round of one program: {figure: value}."""
    figures = {}
    sink = BenchSink(folder, count)
    sink.signal(signal.SIGSTOP)                 # connections open, but nothing is said: delivery is held
    mta = kind(folder, sink, size)
    time.sleep(0.5)
    cpu, begin = cpu_seconds(mta.pid), time.monotonic()
    mta.inject(count)
    figures["inject"] = count / (time.monotonic() - begin)
    time.sleep(1.5)                             # what is left to do after acceptance
    figures["inject CPU"] = (cpu_seconds(mta.pid) - cpu) / count * 1e6

    cpu, begin = cpu_seconds(mta.pid), time.monotonic()
    sink.signal(signal.SIGCONT)
    figures["drain"] = count / (sink.last_arrival() - begin)
    wait_until(mta.is_empty, 300, "an empty queue")
    figures["drain CPU"] = (cpu_seconds(mta.pid) - cpu) / count * 1e6

    sink = BenchSink(folder, count, sink.address)
    peak = Peak(mta.pid)
    cpu, begin = cpu_seconds(mta.pid), time.monotonic()
    mta.inject(count)
    figures["through"] = count / (sink.last_arrival() - begin)
    figures["through CPU"] = (cpu_seconds(mta.pid) - cpu) / count * 1e6
    figures["peak PSS"] = peak.stop()
    wait_until(mta.is_empty, 60)
    mta.stop()
    return figures


def compare(folder, rounds, count, size):
    """Rounds in turns; prints values and ratios with their spread. True when the marks are met."""
    rows = []
    for i in range(rounds):
        pair = {}
        for kind in ((Postern, Postfix) if i % 2 == 0 else (Postfix, Postern)):
            pair[kind.name] = run(kind, folder, count, size)
            print(f"round {i + 1} {kind.name}: " + "  ".join(f"{k} {v:.0f}" for k, v in pair[kind.name].items()), flush=True)
        rows.append(pair)
    units = {"CPU": "µs/msg", "PSS": "MB"}
    print(f"\n{count} messages of {size} bytes, {rounds} rounds in turns; ratio is Postern / Postfix: median (min..max)")
    print(f"{'':14}{'Postern':>10}{'Postfix':>10}  {'':8}{'ratio':>8}")
    is_met = True
    for key in rows[0]["Postern"]:
        ours, theirs = ([row[name][key] for row in rows] for name in ("Postern", "Postfix"))
        ratios = sorted(a / b for a, b in zip(ours, theirs))
        ratio = statistics.median(ratios)
        verdict = ""
        if key in MARKS:
            sign, mark = MARKS[key]
            good = ratio >= mark if sign == "≥" else ratio <= mark
            is_met = is_met and good
            verdict = f"   mark {sign} {mark:g}: {met(good)}"
        print(f"{key:14}{statistics.median(ours):>10.0f}{statistics.median(theirs):>10.0f}  {units.get(key.split()[-1], 'msgs/s'):8}"
              f"{ratio:>8.2f} ({ratios[0]:.2f}..{ratios[-1]:.2f}){verdict}", flush=True)
    return is_met


# --- where the queues live

class Disk:
    """A new ext4 in a sparse file, mounted as .folder until stop()."""
    BYTES = 8 << 30

    def __init__(self, folder):
        self.folder, image = folder / "disk", folder / "image"
        self.folder.mkdir()
        with open(image, "wb") as file:
            file.truncate(self.BYTES)
        done = subprocess.run(["mkfs.ext4", "-q", image], capture_output=True, text=True)
        if done.returncode == 0:
            done = subprocess.run(["mount", "-o", "loop", image, self.folder], capture_output=True, text=True)
        self.is_mounted = done.returncode == 0
        kind = subprocess.run(["stat", "-f", "-c", "%T", self.folder], capture_output=True, text=True).stdout.strip()
        print("queues on a new ext4" if self.is_mounted else f"queues on {kind}: {done.stderr.strip()}")

    def stop(self):
        if self.is_mounted:
            subprocess.run(["umount", "-l", self.folder], check=True)


# --- a long queue

def waiting(folder, count):
    """Prints what `count` waiting messages cost; true when the marks are met."""
    tempfile.tempdir = str(folder)
    sink, mta = harness.Sink(folder), harness.Instance()
    cost = measure.long_queue(mta, sink, count, 15)
    mta.close()
    mta.remove()
    sink.stop()
    is_fast, is_small = cost["first_s"] <= 1, cost["bytes_each"] <= 64
    print(f"\n{count} waiting messages, taken in {cost['taken_s']:.1f} s, listed in {cost['list_s']:.2f} s")
    print(f"  start to ready {cost['ready_s']:.2f} s, to first delivery {cost['first_s']:.2f} s   mark ≤ 1: {met(is_fast)}")
    print(f"  scheduler memory {cost['bytes_each']:.1f} bytes each   mark ≤ 64: {met(is_small)}")
    print(f"  system calls of all processes in 15 s: {len(cost['calls'])}", *cost["calls"][:300], sep="\n    ")
    return is_fast and is_small


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--waiting", type=int, default=100000)
    parser.add_argument("--only", choices=["compare", "waiting"])
    parser.add_argument("--dir", type=Path, help="where the queues live: a disk, not a memory file system")
    options = parser.parse_args()
    reason = peers.missing() or (None if os.geteuid() == 0 else "needs root")
    if reason and options.only != "waiting":
        sys.exit(f"bench: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="postern-bench-", dir=options.dir or "/var/tmp"))
    folder.chmod(0o755)
    disk = Disk(folder) if os.geteuid() == 0 and not options.dir else None
    queues = disk.folder if disk else folder
    try:
        is_met = True
        if options.only != "waiting":
            is_met = compare(queues, options.rounds, options.messages, options.size)
        if options.only != "compare":
            is_met = waiting(queues, options.waiting) and is_met
        print("all marks met" if is_met else "not all marks met")
    finally:
        if disk:
            disk.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
