"""kill -9 of each process at random while mail flows: nothing is lost, and only a killed worker may repeat anything.

The short form runs in `make check`; `make soak` (POSTERN_SOAK=1) runs 5,000 messages per process, in many more kills.
"""
import os
import random
import re
import signal
import threading
import time

import pytest
from harness import SANITIZED, SLOW, wait_until

pytestmark = pytest.mark.alone
SOAK = os.environ.get("POSTERN_SOAK") == "1"
MESSAGES = 5000 if SOAK else 400 if SANITIZED else 1200
KILLS = 40 if SOAK else 5
WORKERS = ("pickup", "scheduler", "resolver", "limiter", "smtpout")

CONF = """workers = 2
retry { after = { "1s" } }
"""


def letter(i):
    return f"""X-Sender: <sender{i % 7}@here.example>
X-Receiver: <u{i}@d{i % 20}.example>
From: a@here.example
To: list@there.example
Message-ID: <{i}@crash.example>

message {i}
.
"""


class Feeder(threading.Thread):
    """Drops the messages over `seconds`, whatever happens to the processes meanwhile."""

    def __init__(self, mta, count, seconds):
        super().__init__(daemon=True)
        self.mta, self.count, self.seconds = mta, count, seconds
        self.start()

    def run(self):
        begin = time.monotonic()
        for i in range(self.count):
            self.mta.drop(letter(i))
            time.sleep(max(0, begin + self.seconds * i / self.count - time.monotonic()))


def prepare(mta, sink, zone):
    """Half of the domains go direct, the others by a relay with a limit too wide to matter: every process has work."""
    site, relay = sink("-d", "15"), sink("-d", "15")
    records = {f"d{i}.example MX": [f"10 mx{i % 4}.example"] for i in range(20)}
    records.update({f"mx{i}.example A": [site.address] for i in range(4)})
    excluded = ", ".join(f'"d{i}.example"' for i in range(10))
    mta.configure(CONF + zone(records) + f'server "direct" {{ method = direct port = 2525 deny-addresses = {{}} '
                  f'limits = {{ "1000000/hour" }} exclude-domains = {{ {excluded} }} }}\n'
                  + relay.relay("relay", 'limits = { "1000000/hour", "1000000/day recipients" }'))
    return site, relay


def outcome(mta, sinks, count):
    """Waits until all ids have arrived and the spool is empty; returns the ids that came more than once."""
    def arrived():
        return {row["id"] for one in sinks for row in one.ledger()}
    wanted = {f"<{i}@crash.example>" for i in range(count)}
    try:
        wait_until(lambda: sum(one.count() for one in sinks) >= count and wanted <= arrived(), 90 if SOAK else 45)
    except AssertionError:
        raise AssertionError(f"{len(wanted - arrived())} of {count} lost or late: {sorted(wanted - arrived())[:5]}")
    mta.wait_empty(60)
    seen, twice = set(), []
    for one in sinks:
        for row in one.ledger():
            if row["id"] in seen:
                twice.append(row["id"])
            seen.add(row["id"])
    assert not any(row["sender"] == "" for one in sinks for row in one.ledger()), "a bounce where none was due"
    return twice


@pytest.mark.parametrize("victim", WORKERS)
def test_kill_process(mta, sink, zone, victim):
    """RE09, CR05 to CR08: a process is gone at any moment, as after an OOM kill."""
    mta.allow = [r"signal 9"]
    sinks = prepare(mta, sink, zone)
    mta.start()
    seconds = (30 if SOAK else 3) * SLOW
    feeder = Feeder(mta, MESSAGES, seconds)
    kills = 0
    for _ in range(KILLS):
        time.sleep(random.uniform(0.3, 1.6) * seconds / KILLS)
        kills += len(wait_until(lambda: mta.pids(victim), 60) and mta.kill(victim))
    feeder.join()
    twice = outcome(mta, sinks, MESSAGES)
    print(f"{victim}: {MESSAGES} messages, {kills} kills, 0 lost, {len(twice)} repeated")
    if victim != "smtpout":
        assert not twice, f"killing {victim} repeated {twice[:5]}"
    silent = set(twice) - announced(mta)
    assert not silent, f"repeated without a word: {sorted(silent)[:5]}"


def announced(mta):
    """Message-IDs that the log calls possibly repeated. Read once: a long run repeats a thousand and logs a million lines."""
    number_of, warned = {}, set()
    with open(mta.log_path, errors="replace") as log:
        for line in log:
            ident = re.search(r"\]: (?:\w+: )?([0-9A-V]{13}): ", line)
            if ident and (to := re.search(r": to=<u(\d+)@", line)):
                number_of[ident[1]] = to[1]
            if ident and "possibly repeated" in line:
                warned.add(ident[1])
    return {f"<{number_of[queue_id]}@crash.example>" for queue_id in warned if queue_id in number_of}


@pytest.mark.parametrize("victim", ["smtpout", "scheduler"])
def test_connections_are_counted_through_kills(mta, sink, zone, victim):
    """max-connections and reconnect-every, counted where they arrive: by a relay, and by MX hosts that are one site.

    After the death of a scheduler the sites of the connections that it leaves behind are not known, only their server."""
    mta.allow = [r"signal 9"]
    count, kills = (5000, 40) if SOAK else (450, 5)
    relay, site = sink("-c", "-d", "40"), sink("-c", "-d", "40")
    records = {f"d{i}.example MX": ["10 mx.example"] for i in range(20)} | {"mx.example A": [site.address]}
    most = "max-connections-per-destination = 3" if victim == "smtpout" else "max-connections = 3"
    excluded = ", ".join(f'"d{i}.example"' for i in range(20) if i % 3)
    mta.configure(CONF.replace("workers = 2", "workers = 3") + zone(records) +
                  f'server "direct" {{ method = direct port = 2525 deny-addresses = {{}} {most} reconnect-every = 9 '
                  f'exclude-domains = {{ {excluded} }} }}\n' + relay.relay("relay", "max-connections = 7 reconnect-every = 8"))
    mta.start()
    mta.drop_many(count, letter)
    for done in range(1, kills + 1):
        wait_until(lambda: relay.count() + site.count() >= count * done / (kills + 2), 60)
        pid = random.choice(list(wait_until(lambda: mta.pids(victim))))
        os.kill(pid, signal.SIGKILL)
    outcome(mta, (relay, site), count)
    mta.stop()
    for one, open_at_once, messages in ((relay, 7, 8), (site, 3, 9)):
        most_open = one.most_open()
        assert most_open == open_at_once, f"{most_open} connections at once where {open_at_once} are allowed"
        assert max(int(row["transaction"]) for row in one.ledger()) == messages


def test_kill_master(mta, sink, zone):
    """Its children end on their own; a second master takes over the spool at once."""
    sinks = prepare(mta, sink, zone)
    mta.start()
    seconds = (30 if SOAK else 3) * SLOW
    feeder = Feeder(mta, MESSAGES, seconds)
    for _ in range(KILLS if SOAK else 3):
        time.sleep(random.uniform(0.3, 1.6) * seconds / (KILLS if SOAK else 3))
        mta.kill("master")
        mta.process.wait()
        mta.start()
    feeder.join()
    twice = outcome(mta, sinks, MESSAGES)
    print(f"master: {MESSAGES} messages, 0 lost, {len(twice)} repeated")
    assert not twice, f"killing master repeated {twice[:5]}"


def test_kill_everything_at_once(mta, sink, zone):
    """As a power cut without the loss of what was not yet on disk."""
    sinks = prepare(mta, sink, zone)
    mta.start()
    feeder = Feeder(mta, MESSAGES, 3 * SLOW)
    for _ in range(KILLS if SOAK else 2):
        time.sleep(random.uniform(0.5, 1.2) * SLOW)
        mta.kill_all_processes()
        mta.start()
    feeder.join()
    outcome(mta, sinks, MESSAGES)
