"""Several hosts share their limits in one Redis: what arrives is never more than the limit, whatever dies."""
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
from fake_smtp import free_address
from harness import SLOW, Daemon, listens, wait_until

PORT = 6399
PROGRAM = shutil.which("redis-server") or "redis-server"


class Redis(Daemon):
    """A private redis-server; started again by start_again(), on the same folder."""

    def __init__(self, folder, *options, address=None):
        self.folder, self.options = folder / "redis", options
        self.folder.mkdir(exist_ok=True)
        self.address = address or free_address()
        self.start_again()

    def start_again(self):
        super().__init__([PROGRAM, "--bind", self.address, "--port", PORT, "--dir", self.folder, "--save", "", "--daemonize", "no",
                          *self.options], self.folder, "redis", lambda: listens(self.address, PORT))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def command(self, *words):
        return subprocess.run(["redis-cli", "-h", self.address, "-p", str(PORT), *map(str, words)], check=True,
                              capture_output=True, text=True, timeout=20 * SLOW).stdout.strip()

    def option(self, more=""):
        return f'limits-store = "redis://{self.address}:{PORT}/3" {more}\n'


@pytest.fixture
def redis(folder):
    made = []

    def start(*options, **more):
        made.append(Redis(folder, *options, **more))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.signal(signal.SIGCONT)
        one.stop()


def message(i):
    return f"From: a@here.example\nTo: b{i}@there.example\nMessage-ID: <{i}@here.example>\n\nhello\n"


def check_no_span_over(times_ms, amount, seconds):
    """The receiver's own clock: no span of so many seconds holds more than so many."""
    times = sorted(times_ms)
    for first, last in zip(times, times[amount:]):
        assert last - first > seconds * 1000, f"{amount + 1} within {last - first} ms at {first}"


def settled(mta):
    """That limit's line of `postern limits`."""
    return mta.json("limits")[0]


def test_one_counter_for_all(make_mta, sink, redis):
    store, server = redis(), sink()
    hosts = [make_mta() for _ in range(3)]
    for host in hosts:
        host.start(store.option() + server.relay("out", 'limits = { "7/hour" }'))
        host.drop_many(4, lambda i: message(f"{id(host)}-{i}"))
    server.wait(7)
    shown = wait_until(lambda: all((line := settled(h))["used"] == 7 and line["free_at"] and line for h in hosts)
                       and settled(hosts[0]))
    assert shown["allowed"] == 7 and shown["leased"] == 0
    assert server.count() == 7
    keys = store.command("-n", 3, "keys", "*").splitlines()
    assert keys and all(int(store.command("-n", 3, "pttl", key)) > 0 for key in keys)
