"""Floods of drop/: what is renamed in is taken at full speed, however many come at once (DR09, RE12)."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from harness import SLOW, wait_until

# Writes .NAME.tmp in drop/ and renames it, as fast as it can; four inotify events each.
FLOOD = """
import os, sys
folder, count, uid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.chdir(folder)
if uid:
    os.setgid(os.stat(".").st_gid), os.setuid(uid)
os.umask(0)
for i in range(count):
    fd = os.open(f".f{i}.tmp", os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, b"From: a@here.example\\nTo: b@there.example\\nMessage-ID: <f%d@t>\\n\\nhello\\n" % i)
    os.close(fd)
    os.rename(f".f{i}.tmp", f"f{i}")
"""


def flood(mta, count, uid=0):
    return subprocess.Popen([sys.executable, "-c", FLOOD, str(mta.spool / "drop"), str(count), str(uid)])


def waiting(mta):
    return sum(not name.startswith(".") for name in os.listdir(mta.spool / "drop"))


def wait_taken(mta, writer, timeout):
    """Until drop/ is empty; returns the longest time in which nothing left it."""
    last, since, longest = None, time.monotonic(), 0
    deadline = time.monotonic() + timeout * SLOW
    while True:
        done, left = writer.poll() is not None, waiting(mta)
        now = time.monotonic()
        if left != last:
            last, since = left, now
        longest = max(longest, now - since)
        if done and left == 0:
            assert writer.returncode == 0
            return longest
        assert now < deadline, f"{left} files are still in drop/"
        time.sleep(0.02)


def stop_and_flood(mta, name, count):
    """`name` is stopped while so many files come."""
    mta.kill(name, signal.SIGSTOP)
    writer = flood(mta, count)
    try:
        assert writer.wait(60 * SLOW) == 0
    finally:
        mta.kill(name, signal.SIGCONT)
    return writer


@pytest.fixture
def started(mta, sink):
    """In memory: what is measured are events, and no disk that others keep busy."""
    mta.spool = Path(tempfile.mkdtemp(prefix="postern-test-", dir="/dev/shm")) / "spool"
    mta.spool.parent.chmod(0o755)
    mta.start(sink().relay("out"))
    yield mta
    mta.stop()
    shutil.rmtree(mta.spool.parent, ignore_errors=True)


@pytest.mark.alone
def test_re12_as_many_renames_as_the_kernel_remembers(started):
    """Four events for each: one queue for all of them overflowed, no lease was to be had, the rest waited ten seconds."""
    longest = wait_taken(started, stop_and_flood(started, "pickup", 12000), 60)
    assert longest < 5 * SLOW, f"nothing was taken for {longest:.1f} s"


@pytest.mark.alone
def test_dr09_more_of_one_user_than_are_kept_ready(started):
    """Files that were complete when they came are so when they are found again."""
    longest = wait_taken(started, stop_and_flood(started, "scheduler", 20000), 60)
    assert longest < 5 * SLOW, f"nothing was taken for {longest:.1f} s"


@pytest.mark.alone
def test_dr09_flood_while_mail_flows(started):
    longest = wait_taken(started, flood(started, 30000), 60)
    assert longest < 5 * SLOW, f"nothing was taken for {longest:.1f} s"


def test_renamed_in_shortly_before_the_start(started):
    """Root looks, before the jail, who has what is there open; so two seconds of silence are enough."""
    started.stop()
    assert flood(started, 5).wait() == 0
    start = time.monotonic()
    started.start()
    wait_until(lambda: waiting(started) == 0, timeout=20, what="drop/ to be empty")
    assert time.monotonic() - start < 20 * SLOW, "it waited for the next rescan"


def test_dr09_one_user_does_not_delay_another(started):
    """Thousands of root's wait; a stranger's one message comes with the next batches."""
    if os.getuid() != 0:
        pytest.skip("files of two users need root to make")
    stop_and_flood(started, "scheduler", 12000)
    outside = started.spool.parent / "other"
    outside.write_text("From: a@here.example\nTo: b@there.example\nMessage-ID: <o@t>\n\nhello\n")
    outside.chmod(0o644)
    os.chown(outside, 65534, 65534)
    outside.rename(started.spool / "drop/other")
    wait_until(lambda: not (started.spool / "drop/other").exists(), what="it to be taken")
    assert waiting(started) > 500
    started.wait_log("uid=65534 from=")
    started.wait_empty(60)
