#!/usr/bin/env python3
"""make demo: a private Postern delivers to servers that play roles; what happens is told as it happens.

A primary relay that fails after a while, a secondary with a limit of 5 messages in 5 seconds, a site that is delivered to
directly (its MX comes from a little DNS server), all on loopback, all gone afterwards. Ends with status 1 when anything
was not as told.
"""
import os
import pwd
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "fake"), str(TESTS / "system")]

import fake_dns  # noqa: E402
import harness  # noqa: E402
from harness import wait_until  # noqa: E402

BEGIN = time.monotonic()
WORDS = {"sent": "delivered", "deferred": "put off", "bounced": "refused for good"}


def tell(text, sign=" "):
    print(f"{time.monotonic() - BEGIN:5.1f} s  {sign} {text}", flush=True)


class Narrator(threading.Thread):
    """Follows the log and says each outcome in plain words."""

    def __init__(self, log):
        super().__init__(daemon=True)
        self.log, self.seen, self.done = log, 0, threading.Event()
        self.start()

    def run(self):
        while True:
            is_last = self.done.is_set()
            text = self.log.read_text() if self.log.exists() else ""
            complete = text.rfind("\n") + 1
            for line in text[self.seen:complete].splitlines():
                self.translate(line)
            self.seen = max(self.seen, complete)
            if is_last:
                return
            self.done.wait(0.05)

    def catch_up(self):
        """Returns once all that was logged so far is told."""
        size = self.log.stat().st_size
        wait_until(lambda: self.seen >= size or not self.is_alive())

    def chapter(self, text):
        self.catch_up()
        print(f"\n{text}", flush=True)

    def translate(self, line):
        found = re.search(r"to=<([^>]*)>.*status=(\w+) \((.*)\)(?:, (.*))?$", line)
        if not found:
            return
        rcpt, status, reply, more = found.groups()
        own = dict(re.findall(r"([\w-]+)=(\S+)", more or ""))
        through = f" through {own['server']}" if "server" in own else ""
        later = f"; next try {own['next'][11:19]} UTC" if "next" in own else ""
        said = reply.split(" (in reply to")[0]
        tell(f"{WORDS.get(status, status)}{through}: {rcpt} ({said}){later}", {"sent": "+", "deferred": "~"}.get(status, "-"))

    def stop(self):
        self.done.set()
        self.join()


def letter(to, subject, sender="me@here.example"):
    return f"X-Sender: <{sender}>\nX-Receiver: <{to}>\nFrom: {sender}\nTo: {to}\nSubject: {subject}\n\nHello from the demo.\n"


def users():
    """Started as root, the processes become these; a demo takes what every system has."""
    try:
        pwd.getpwnam("postern"), pwd.getpwnam("postern-smtp")
        return None
    except KeyError:
        return ("nobody", "daemon", "mail") if os.geteuid() == 0 else None


def configuration(mta, primary, secondary, site):
    dns = fake_dns.FakeDns({"site.example MX": ["10 mx.site.example"], "mx.site.example A": [site.address]})
    return f"""retry {{ after = {{ "2s" }} greylist-after = "2s" }}
{harness.dns_section(dns, mta.dir)}
servers = {{ "direct", "primary", "secondary" }}
server "direct" {{ method = direct port = 2525 deny-addresses = {{ }}
                  exclude-domains = {{ "customers.example", "here.example" }} }}
""" + primary.relay("primary", 'exclude-domains = { "site.example" }') \
        + secondary.relay("secondary", 'exclude-domains = { "site.example" } limits = { "5/5s" }')


def play(mta, narrator, primary, secondary, site):
    narrator.chapter("1. Five messages to customers.example: their mail goes through the primary relay.")
    for i in range(5):
        mta.drop(letter(f"customer{i}@customers.example", "offer"))
    primary.wait(5)
    mta.wait_log("status=sent", times=5)

    narrator.chapter("2. One to a site that is delivered to directly. Its server is busy at first, so the message is tried again.")
    mta.drop(letter("bob@site.example", "direct"))
    mta.wait_log("to=<bob@site.example>.*status=deferred")
    row, = site.wait(1)
    assert row["rcpts"] == ["bob@site.example"]
    mta.wait_log("to=<bob@site.example>.*status=sent")

    narrator.chapter("3. One to a customer who does not exist: the sender gets a report.")
    mta.drop(letter("nobody@customers.example", "lost"))
    report = primary.wait(6)[5]
    assert report["sender"] == "" and report["rcpts"] == ["me@here.example"]
    mta.wait_log("to=<me@here.example>.*status=sent")

    narrator.chapter("4. Now the primary fails. Twelve messages: the secondary takes over, but may carry only 5 in any 5 seconds.")
    primary.break_it()
    wait_until(lambda: not harness.listens(primary.address, primary.port))
    for i in range(12):
        mta.drop(letter(f"customer{i}@customers.example", "second offer"))
    secondary.wait(5)
    held = 12 - secondary.count()
    mta.wait_log("to=<customer.*server=secondary", times=5)
    narrator.catch_up()
    tell(f"the limit holds {held} back", "=")
    rows = secondary.wait(12, timeout=30)
    times = [row["time"] for row in rows]
    assert held > 0 and all(b - a >= 4.99 for a, b in zip(times, times[5:])), "more than 5 in 5 seconds"
    mta.wait_log("to=<customer.*server=secondary", times=12)
    narrator.catch_up()
    tell(f"all 12 released: the sixth came {times[5] - times[0]:.1f} s after the first, the eleventh {times[10] - times[5]:.1f} s after that", "=")

    narrator.chapter("5. One whose mailbox is full: it stays in the queue and will be tried again.")
    mta.drop(letter("full@site.example", "waiting"))
    mta.wait_log("to=<full@site.example>.*status=deferred")
    narrator.stop()
    for command in ("status", "queue"):
        narrator.chapter(f"postern {command}")
        subprocess.run([mta.bin, "-c", mta.conf, command], check=True)
    assert "full@site.example" in mta.postern("queue").stdout, "the message that waits is not listed"
    assert [one.count() for one in (primary, secondary, site)] == [6, 12, 1], "not exactly once each"


def main():
    mta = harness.Instance(users=users())
    made = []
    narrator = Narrator(mta.log_path)
    try:
        for options in (["-m", "refuse", "-x", "nobody@*=550 5.1.1 no such customer"], [],
                        ["-x", "full@*=452 4.2.2 mailbox full", "-o", "bob@*=451 4.3.2 too busy, come back later"]):
            made.append(harness.Sink(mta.dir, *options))
        tell("starting a private Postern with a primary, a secondary and a site for direct delivery")
        mta.start(configuration(mta, *made))
        play(mta, narrator, *made)
        narrator.chapter("Stopping.")
        for one in made:
            one.stop()
        mta.close()
        print("Everything was as told.")
        return 0
    except (AssertionError, OSError, subprocess.SubprocessError) as e:
        narrator.stop()
        print(f"\nNOT AS TOLD: {e}\n--- log\n{mta.log()[-4000:]}\n--- stderr\n{mta.stderr()[-2000:]}", file=sys.stderr)
        return 1
    finally:
        for one in made:
            one.stop()
        mta.kill_all()
        mta.remove()


if __name__ == "__main__":
    sys.exit(main())
