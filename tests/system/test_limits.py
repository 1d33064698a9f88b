"""The limiter alone: asked in packets, killed, restarted, damaged."""
import os
import pwd
import random
import select
import signal
import time
from pathlib import Path

import pytest
from childproc import PEER_ALIVE, PEER_DEAD, Child, encode
from harness import SANITIZED, SLOW

IS_ROOT = os.geteuid() == 0
CONF = """
hostname = "mail.example.org"
spool = "spool"
log = "stderr"
server "isp" {{
    host = "smtp.example.org"
    limits = {{ {limits} }}
}}
server "free" {{ host = "smtp.example.net" }}
"""
OTHER = 'server "other" { host = "smtp.example.com" limits = { "7/hour" } }\n'
SET, RESET, FULL = 0, 1, 2


class Limiter(Child):
    """Counts requests, and starts successors with a generation of their own as master does."""

    def __init__(self, folder, limits, **options):
        self.request = 0
        counters = folder / "spool/db/limits"
        counters.mkdir(parents=True, exist_ok=True)
        for path in (folder, counters.parent.parent, counters.parent):
            path.chmod(0o755)
        counters.chmod(0o700)
        if options.get("identity"):
            os.chown(counters, *options["identity"])
        quoted = ", ".join(f'"{limit}"' for limit in limits)
        conf = CONF.format(limits=quoted) + options.pop("more", OTHER)
        super().__init__("limiter", conf, folder, **options)

    def restart(self):
        self.kill()
        self.generation += 1
        self.start()

    def ask(self, messages, recipients=None, server="isp", request=None):
        if request is None:
            self.request += 1
            request = self.request
        recipients = recipients or messages
        self.send("PERMIT_ASK", request=request, scopes=server, messages=messages, recipients=recipients,
                  first=recipients if messages == 1 else 1, **{"class": 0})
        return request

    def permit(self, messages, recipients=None, server="isp"):
        request = self.ask(messages, recipients, server)
        name, permit = self.receive()
        assert (name, permit["request"], permit["scope_at"]) == ("PERMIT", request, 0)
        return permit

    def permit_or_none(self):
        """None: decided, but there is no room to make it durable, so it is not said."""
        self.ask(1)
        if not select.select([self.pipes[0][1].read_end], [], [], 1)[0]:
            return None
        return self.receive()[1]

    def settled(self, message, **values):
        self.request += 1
        self.send(message, request=self.request, **values)
        name, answer = self.receive()
        assert (name, answer["request"]) == ("SETTLED", self.request)

    def settle(self, used=0, refunded=0, server="isp"):
        self.settled("SETTLE", scopes=server, **{"class": 0}, used_messages=used, used_recipients=used, refund_messages=refunded,
                     refund_recipients=refunded)

    def adopt(self, messages, server="isp"):
        self.settled("ADOPT", scope=server, **{"class": 0}, messages=messages, recipients=messages)

    def correct(self, what, scope="isp", limit="", used=0, window_s=0):
        self.request += 1
        self.send("LIMIT_CORRECT", request=self.request, scope=scope, limit=limit, what=what, used=used, window_ms=window_s * 1000)
        name, answer = self.receive()
        assert (name, answer["request"]) == ("LIMIT_CORRECTED", self.request)
        return answer

    def states(self, server="isp"):
        self.request += 1
        self.send("LIMIT_QUERY", request=self.request, scope=server, **{"from": 0})
        states = []
        while not states or not states[-1]["last"]:
            name, state = self.receive()
            assert (name, state["request"]) == ("LIMIT_STATE", self.request)
            states.append(state)
        return states[:-1] or states


@pytest.fixture
def limiter(tmp_path):
    started = []

    def start(*limits, **options):
        started.append(Limiter(tmp_path, limits, **options))
        return started[-1]

    yield start
    for child in started:
        child.__exit__()


def test_permits_are_granted_settled_and_shown(limiter):
    child = limiter("5/hour", "8/day", "20/hour recipients")
    before = time.time() * 1000
    permit = child.permit(9, 12)
    assert (permit["messages"], permit["recipients"], permit["limit"]) == (5, 12, "")
    permit = child.permit(1)
    assert (permit["messages"], permit["recipients"], permit["limit"]) == (0, 0, "5/hour")
    assert before + 3600000 <= permit["free_at"] <= time.time() * 1000 + 3601000
    child.settle(used=2, refunded=3)
    assert child.permit(9)["messages"] == 3
    hour, day, recipients = child.states()
    assert (hour["limit"], hour["window_ms"], hour["used"], hour["allowed"]) == ("5/hour", 3600000, 5, 5)
    assert hour["free_at"] > before and not hour["is_recipients"]
    assert (day["used"], day["allowed"], day["free_at"]) == (5, 8, 0)
    assert (recipients["is_recipients"], recipients["allowed"]) == (1, 20)


def test_server_without_limits_is_free_and_needs_no_database(limiter, tmp_path):
    child = limiter("unlimited", more="")
    for server in ("isp", "free"):
        assert child.permit(1000, server=server)["messages"] == 1000
    state, = child.states("free")
    assert (state["limit"], state["last"]) == ("", 1)
    assert os.listdir(tmp_path / "spool/db/limits") == []


def test_zero_means_none_and_never(limiter):
    permit = limiter("0/day").permit(1)
    assert (permit["messages"], permit["free_at"], permit["limit"]) == (0, 0, "0/day")


def test_reply_lost_same_request_same_permit(limiter):
    """CR13: granted once, said as often as asked."""
    child = limiter("10/hour")
    for _ in range(3):
        child.ask(4, request=77)
        assert child.receive()[1]["messages"] == 4
    assert child.states()[0]["used"] == 4


def test_cr18_counts_survive_kill_and_stop(limiter):
    child = limiter("10/hour", "1000/month")
    assert child.permit(6)["messages"] == 6
    child.settle(used=3, refunded=1)
    child.restart()
    assert child.states()[0]["used"] == 5          # 3 used, 2 still under way
    child.adopt(1)                                 # the other one is lost from sight: used
    assert child.states()[1]["used"] == 5
    child.settle(refunded=1)
    assert child.states()[0]["used"] == 4
    child.signal(signal.SIGTERM)
    assert child.wait() == 0
    child.restart()
    assert [state["used"] for state in child.states()] == [4, 4]


def test_new_scheduler_may_speak_before_master_tells_of_it(limiter):
    child = limiter("10/hour")
    assert child.permit(6)["messages"] == 6
    child.tell_peer(PEER_DEAD)
    old, child.us = child.us, child.us + 1
    child.request = 0
    child.adopt(2)
    assert child.permit(9)["messages"] == 4
    child.tell_peer(PEER_ALIVE)                    # no news
    assert child.states()[0]["used"] == 10
    child.send_raw(encode("PERMIT_ASK", old, child.generation, request=9, scopes="isp", messages=1, recipients=1,
                          first=1, **{"class": 0}))
    child.settle(refunded=4)                       # the old one's question gets no answer
    assert child.states()[0]["used"] == 6


@pytest.mark.parametrize("damage", ["records.db deleted", "logs deleted", "records.db garbage", "log torn"])
def test_damaged_counters_grant_nothing_and_say_so(limiter, tmp_path, damage):
    """CR14 to CR17: torn, garbage, or gone: closed until an operator has spoken."""
    child = limiter("10/hour")
    assert child.permit(6)["messages"] == 6
    child.kill()
    counters = tmp_path / "spool/db/limits"
    logs = sorted(counters.glob("log.*"))
    if damage == "records.db deleted":
        (counters / "records.db").unlink()
    elif damage == "logs deleted":
        for log in logs:
            log.unlink()
    elif damage == "records.db garbage":
        (counters / "records.db").write_bytes(os.urandom(20000))
    else:
        content = logs[-1].read_bytes().rstrip(b"\0")
        os.truncate(logs[-1], len(content) - 40)
    for _ in range(2):
        child.restart()
        permit = child.permit(1)
        assert (permit["messages"], permit["limit"]) == (0, "the counters in db/limits are damaged")
        assert permit["free_at"] > time.time() * 1000
        assert child.permit(3, server="free")["messages"] in (0, 3)
        assert "nothing is sent where limits hold" in child.log()
        assert not child.has_ended()
    assert child.correct(RESET)["is_done"]         # what the log line tells the operator to do
    assert child.permit(20)["messages"] == 10
    assert child.permit(1, server="other")["limit"] == "7/hour"    # nobody knows what was used of it
    assert list(counters.glob("damaged-*"))
    child.restart()
    assert child.permit(1, server="other")["limit"] == "7/hour"
    assert child.correct(SET, "other", "7/hour", used=5)["is_done"]
    assert child.permit(9, server="other")["messages"] == 2


def check_no_span_over(sent, amount, seconds):
    sent.sort()
    for first, last in zip(sent, sent[amount:]):
        assert last - first > seconds, f"{amount + 1} within {last - first:.6f} s"


@pytest.mark.final
@pytest.mark.parametrize("amount", [30, 12000])
def test_no_span_is_over_its_limit_when_killed_at_random(limiter, amount):
    """Sends lie anywhere between permit and settlement; 15 or more kills of the limiter, some of the scheduler."""
    child = limiter(f"{amount}/second")
    rng = random.Random(amount)
    sent, flying, kills, asked = [], 0, 0, 0
    end = time.monotonic() + 5
    while time.monotonic() < end or kills < 15:
        chance = rng.random()
        if chance < 0.08 and kills < 40:
            asked = child.ask(amount // 3)         # a question in the air, perhaps decided, perhaps told
            if rng.random() < 0.5:
                select.select([child.pipes[0][1].read_end], [], [], 0.01)
            child.kill()
            kills += 1
            try:                                   # what it said before it died
                while True:
                    name, answer = child.receive(timeout=0)
                    if name == "PERMIT" and answer["request"] == asked:
                        flying += answer["messages"]
            except AssertionError:
                pass
            child.generation += 1
            child.start()
            child.adopt(flying)
        elif chance < 0.10:
            child.us += 1                          # the scheduler; one third of its permits it does not know any more
            sent += [time.time()] * (flying // 3)
            flying -= flying // 3
            child.tell_peer(PEER_ALIVE)
            child.adopt(flying)
        elif chance < 0.5:
            permit = child.permit(rng.randint(1, amount))
            flying += permit["messages"]
            if not permit["messages"] and rng.random() < 0.5:
                time.sleep(min(max(permit["free_at"] / 1000 - time.time(), 0), 1))
        elif flying:
            part = rng.randint(1, flying)
            refunded = part // 10
            sent += [time.time()] * (part - refunded)
            child.settle(used=part - refunded, refunded=refunded)
            flying -= part
    check_no_span_over(sent, amount, 1)
    assert len(sent) > 2 * amount, len(sent)


@pytest.mark.alone
def test_many_durable_permits_a_second(limiter):
    """Asked for 50 at a time and settled, as the scheduler does it; four limits, every answer durable."""
    child = limiter("10000000/hour", "100000000/day", "1000000000/month", "1000000000/day recipients")
    rounds, batch = 10000, 50
    packets = []
    for i in range(rounds):
        packets.append(encode("PERMIT_ASK", child.us, child.generation, request=2 * i + 1, scopes="isp", first=1, **{"class": 0}, messages=batch,
                              recipients=batch))
        packets.append(encode("SETTLE", child.us, child.generation, request=2 * i + 2, scopes="isp", **{"class": 0},
                              used_messages=batch, used_recipients=batch, refund_messages=0, refund_recipients=0))
    rate = rounds * batch / child.exchange(packets)
    print(f"{rate:.0f} durable permits a second")
    assert child.states()[0]["used"] == rounds * batch
    assert rate * SLOW >= 20000, "how fast it really is, `make bench-limits` says"


@pytest.mark.skipif(not IS_ROOT or SANITIZED, reason="needs root, and a build without sanitizers: they lift the jail")
def test_in_its_jail(limiter, tmp_path):
    nobody = pwd.getpwnam("nobody")
    for parent in tmp_path.parents:
        if parent.stat().st_uid == 0 and parent != parent.parent and not parent.stat().st_mode & 0o005:
            parent.chmod(parent.stat().st_mode | 0o011)
    child = limiter("10/hour", identity=(nobody.pw_uid, nobody.pw_gid))
    assert child.permit(6)["messages"] == 6
    status = dict(line.split(":", 1) for line in open(f"/proc/{child.pid}/status"))
    assert status["Uid"].split() == [str(nobody.pw_uid)] * 4
    assert int(status["CapEff"], 16) == 0 and status["Seccomp"].strip() == "2"
    assert os.path.samefile(f"/proc/{child.pid}/root", tmp_path / "spool/db/limits")
    child.settle(used=6)
    for _ in range(3):
        child.restart()
        child.adopt(0)
        assert child.states()[0]["used"] == 6
    child.signal(signal.SIGTERM)
    assert child.wait() == 0
    child.restart()
    assert child.states()[0]["used"] == 6


@pytest.mark.skipif(not IS_ROOT, reason="needs root: a small file system has to be mounted")
def test_full_disk_grants_nothing_until_there_is_room(limiter, tmp_path):
    """RE02: what cannot be written down is not granted."""
    counters = tmp_path / "spool/db/limits"
    mount = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size=12m none {counters}; exec "$@"', "sh"]
    child = limiter("1000000/day", wrapper=mount)
    inside = f"/proc/{child.pid}/root{counters}"
    assert child.permit(1)["messages"] == 1
    with open(f"{inside}/filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass
    deadline = time.monotonic() + 60 * SLOW
    while child.permit_or_none() is not None:
        assert time.monotonic() < deadline
    parked = child.request
    permit = child.permit(1)
    assert (permit["messages"], permit["limit"]) == (0, "no disk space for the counters")
    os.unlink(f"{inside}/filler")
    name, answer = child.receive(timeout=30)       # the one that had to wait, now durable
    assert (name, answer["request"], answer["messages"]) == ("PERMIT", parked, 1)
    assert child.permit(1)["messages"] == 1
    assert "no room for the counters" in child.log() and "room for the counters again" in child.log()


FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


@pytest.mark.skipif(not FAKETIME or SANITIZED, reason="needs faketime, and a build without sanitizers")
def test_a_calendar_day_turns_at_midnight_of_its_zone(limiter, monkeypatch):
    """Real runs under another wall clock: 23:59:56 in Los Angeles, and over a restart that clock has moved."""
    monkeypatch.setenv("LD_PRELOAD", str(FAKETIME))
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    monkeypatch.setenv("FAKETIME", "@2026-11-22 07:59:56")
    monkeypatch.setenv("TZ", "UTC")
    child = limiter("3/day calendar 00:00 America/Los_Angeles")
    assert child.permit(5)["messages"] == 3
    child.settle(used=3)
    permit = child.permit(1)
    assert permit["messages"] == 0
    begin = 1795334400                                  # 2026-11-22 08:00 UTC
    assert permit["free_at"] == pytest.approx(begin * 1000, abs=1100)
    time.sleep(max(0, permit["free_at"] / 1000 - (begin - 4) + 0.2))
    assert child.permit(5)["messages"] == 3
    child.settle(used=3)
    child.kill()
    monkeypatch.setenv("FAKETIME", "@2026-12-22 07:00:00")  # a month ahead within a moment: nobody believes that
    child.generation += 1
    child.start()
    child.adopt(0)
    assert child.permit(1)["messages"] == 0


def set_clock(monkeypatch, when):
    """For what is started from now on; its other clock goes on as it is."""
    monkeypatch.setenv("LD_PRELOAD", str(FAKETIME))
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    monkeypatch.setenv("FAKETIME", when)


@pytest.mark.skipif(not FAKETIME or SANITIZED, reason="needs faketime, and a build without sanitizers")
@pytest.mark.parametrize("first, second", [("+40d", "-40d"), ("-40d", "+40d")])
def test_clock_steps_open_no_window_and_hold_none_shut(limiter, monkeypatch, first, second):
    child = limiter("2/3s", "3/hour")
    assert child.permit(5)["messages"] == 2
    child.settle(used=2)
    used = time.monotonic()
    set_clock(monkeypatch, first)
    child.restart()
    child.adopt(0)
    permit = child.permit(1)
    assert permit["limit"] == "2/3s" or time.monotonic() - used > 3
    child.settle(refunded=permit["messages"])
    set_clock(monkeypatch, second)
    child.restart()
    child.adopt(0)
    time.sleep(max(0, 3.1 - (time.monotonic() - used)))
    assert child.permit(5)["messages"] == 1
    child.settle(used=1)
    assert child.permit(1)["limit"] == "3/hour"
    assert [state["used"] for state in child.states() if state["limit"] == "3/hour"] == [3]


@pytest.mark.skipif(not FAKETIME or SANITIZED or not IS_ROOT, reason="needs faketime, root, and a build without sanitizers")
@pytest.mark.parametrize("clock", ["+0d", "+10d", "-9000d"], ids=["at once", "after ten days", "clock lost"])
def test_the_monthly_limit_survives_a_reboot(limiter, tmp_path, monkeypatch, clock):
    """Another boot's name and another wall clock; ten days are not thirty, and a clock without battery is no proof of time."""
    child = limiter("5/month")
    assert child.permit(3)["messages"] == 3
    child.settle(used=3)
    child.kill()
    boot = tmp_path / "boot_id"
    boot.write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    child.wrapper = ["unshare", "-m", "sh", "-ec", 'mount --bind "$0" /proc/sys/kernel/random/boot_id; exec "$@"', str(boot)]
    set_clock(monkeypatch, clock)
    child.restart()
    child.adopt(0)
    assert child.permit(9)["messages"] == 2
    assert child.permit(1)["limit"] == "5/month"
    child.settle(used=2)
    child.kill()
    boot.write_text("11111111-89ab-cdef-0123-456789abcdef\n")
    set_clock(monkeypatch, "+41d")
    child.restart()
    child.adopt(0)
    assert child.permit(9)["messages"] == (0 if clock == "-9000d" else 5)
