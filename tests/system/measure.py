"""What processes use: CPU, memory, system calls; and a long queue of waiting mail to use it on."""
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from harness import wait_until

TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid):
    """pid and all its descendants."""
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        try:
            todo += [int(p) for p in Path(f"/proc/{one}/task/{one}/children").read_text().split()]
        except OSError:
            pass
    return found


def cpu_seconds(pid):
    """What the tree of pid has spent so far: living processes to the nanosecond, ended ones to the clock tick."""
    total = 0.0
    for one in tree(pid):
        try:
            total += int(Path(f"/proc/{one}/schedstat").read_text().split()[0]) / 1e9
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[13]) + int(fields[14])) / TICKS
        except OSError:
            pass
    return total


def rollup_kb(pid, key):
    """A line of /proc/PID/smaps_rollup: Pss, Private_Dirty ...; 0 when the process is gone."""
    try:
        return int(re.search(rf"^{key}:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])
    except (OSError, TypeError):
        return 0


def pss_mb(pid):
    """Sum over the tree."""
    return sum(rollup_kb(one, "Pss") for one in tree(pid)) / 1024


# A wait that was under way when strace came or when it left.
ASLEEP = re.compile(r"(epoll_wait|epoll_pwait|poll|select|restart_syscall)\((?!.*= )")


def system_calls(pids, seconds):
    """Lines of strace over all processes; the wait each of them sleeps in does not count."""
    options = [part for pid in pids for part in ("-p", str(pid))]
    process = subprocess.Popen(["strace", "-f", "-qq", *options], stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    return [line for line in process.communicate()[1].splitlines() if not ASLEEP.search(line)]


def long_queue(mta, sink, count, seconds_watched):
    """`count` messages wait for tomorrow; returns what that costs, as a dictionary."""
    def scheduler_kb():
        pid, = mta.pids("scheduler")
        return rollup_kb(pid, "Private_Dirty")

    def drop(name, extra=""):
        mta.drop(f"{extra}From: a@here.example\nTo: b@there.example\nMessage-ID: <{name}@queue.example>\n\nwaiting\n")

    def is_taken():
        return not any(os.scandir(mta.spool / "drop")) and not any(os.scandir(mta.spool / "incoming"))

    mta.start(sink.relay())
    drop("warm")
    sink.wait(1)
    mta.wait_empty()
    mta.restart()
    base = scheduler_kb()

    def send_after(seconds):
        return time.strftime("X-Postern-Send-After: %a, %d %b %Y %H:%M:%S +0000\n", time.gmtime(time.time() + seconds))

    tomorrow = send_after(86400)
    begin = time.monotonic()
    for i in range(count):
        drop(i, tomorrow)
    wait_until(is_taken, 600, "all to be taken")
    taken = time.monotonic() - begin
    drop("first", send_after(6))                # due while nothing runs, so it is what a start finds to do
    wait_until(is_taken)
    mta.stop()
    time.sleep(7)
    assert sink.count() == 1, "sent before its time"
    begin = time.monotonic()
    mta.start(timeout=60)
    ready = time.monotonic() - begin
    wait_until(lambda: sink.count() == 2, 60, "the one message that is due")
    first = time.monotonic() - begin
    wait_until(lambda: len(mta.grep(": removed$")) == 2)
    time.sleep(3)                               # idle connections are closed by then
    each = (scheduler_kb() - base) * 1024 / count
    calls = system_calls(mta.pids(), seconds_watched)
    begin = time.monotonic()
    listed = mta.postern("queue", check=True, timeout=300).stdout.count("\n")
    return {"taken_s": taken, "ready_s": ready, "first_s": first, "bytes_each": each, "calls": calls, "listed": listed,
            "list_s": time.monotonic() - begin}
