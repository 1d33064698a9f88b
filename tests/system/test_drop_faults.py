"""Intake when the disk is full, has no inodes, fails or cannot be written: nothing is lost, nothing comes twice (D5)."""
import ctypes
import os
import shutil
import subprocess

import pytest
from harness import BUILD, SANITIZED, Sink, wait_until

HEAD = "From: a@here.example\nTo: b@there.example\nMessage-ID: <{id}@t>\n"
CLONE_NEWNS = 0x20000

# Preloaded into pickup; a file of the fault's name in the spool switches it on. Inside the jail the spool is ".".
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
static int is_on(const char *fault)
{
	return strcmp(program_invocation_short_name, "pickup") == 0 && access(fault, F_OK) == 0;
}
int syncfs(int fd)
{
	int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "syncfs");
	return is_on("fault-file") ? (errno = EIO, -1) : next(fd);
}
int fsync(int fd)
{
	int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
	struct stat st;
	if (fstat(fd, &st) == 0 && is_on(S_ISDIR(st.st_mode) ? "fault-folder" : "fault-file"))
		return errno = EIO, -1;
	return next(fd);
}
ssize_t pread(int fd, void *bytes, size_t len, off_t at)
{
	ssize_t (*next)(int, void *, size_t, off_t) = (ssize_t (*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread");
	ssize_t got = next(fd, bytes, len, at);
	while (got > 0 && memmem(bytes, (size_t)got, "HANG", 4) && is_on("fault-hang"))
		for (volatile int i = 0; i < 1000000; i++)
			;
	return got;
}
int setitimer(__itimer_which_t which, const struct itimerval *value, struct itimerval *old)
{
	int (*next)(__itimer_which_t, const struct itimerval *, struct itimerval *) =
		(int (*)(__itimer_which_t, const struct itimerval *, struct itimerval *))dlsym(RTLD_NEXT, "setitimer");
	struct itimerval shorter = { .it_value = { .tv_sec = value->it_value.tv_sec >= 30 } };
	return next(which, value->it_value.tv_sec ? &shorter : value, old);
}
int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	int (*next)(int, const char *, int, const char *) =
		(int (*)(int, const char *, int, const char *))dlsym(RTLD_NEXT, "renameat");
	return is_on("fault-read-only") ? (errno = EROFS, -1) : next(from_fd, from, to_fd, to);
}
"""


def letter(ident, body="hello\n"):
    return HEAD.format(id=ident) + "\n" + body


def leftovers(mta):
    return [p.name for p in (mta.spool / "incoming").iterdir() if p.suffix == ".new"]


def is_in_drop(mta, name):
    return (mta.spool / "drop" / name).exists()


def ids(rows):
    return sorted(row["id"] for row in rows)


# --- a small file system

@pytest.fixture
def small(mta, sink):
    """small(options): Postern with its spool on a tmpfs that nobody else sees."""
    if os.getuid() != 0:
        pytest.skip("mounting needs root")
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    if libc.unshare(CLONE_NEWNS) != 0 or subprocess.run(["mount", "--make-rprivate", "/"]).returncode != 0:
        pytest.skip("no mount namespace of our own is to be had")
    disk = mta.dir / "disk"
    disk.mkdir()
    disk.chmod(0o755)

    def start(options):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=755,{options}", "small", disk], check=True)
        mta.spool = disk / "spool"
        mta.server = sink()
        mta.start(mta.server.relay("out"))
        mta.disk = disk
        return mta

    yield start
    mta.stop()
    subprocess.run(["umount", "-l", disk], check=False)
    libc.setns(outside, CLONE_NEWNS)
    os.close(outside)


def put(mta, name, text):
    """By rename, from the same file system."""
    path = mta.disk / f"new-{name}"
    path.write_text(text)
    path.chmod(0o644)
    path.rename(mta.spool / "drop" / name)


def fill(mta, leave):
    """A ballast file that leaves so many bytes."""
    fs = os.statvfs(mta.disk)
    with open(mta.disk / "ballast", "wb") as f:
        os.posix_fallocate(f.fileno(), 0, fs.f_bavail * fs.f_frsize - leave)


def test_re01_nearly_full_disk_leaves_messages_in_drop(small):
    mta = small("size=40m")
    put(mta, "before", letter("before"))
    mta.server.wait(1)
    fill(mta, 3 << 20)
    put(mta, "waits", letter("waits"))
    mta.wait_log(r"no room in the spool's file system: it is nearly full; messages stay in drop/")
    assert is_in_drop(mta, "waits")
    (mta.disk / "ballast").unlink()
    assert ids(mta.server.wait(2)) == ["<before@t>", "<waits@t>"]
    assert len(mta.grep("no room")) == 1


def test_re01_disk_full_in_the_middle_of_a_message(small):
    """Its line ends double it, so it fits when it is looked at and does not when it is written."""
    mta = small("size=40m")
    fill(mta, 29 << 19)
    put(mta, "large", letter("large", "\n" * (5 << 20)))
    mta.wait_log(r"cannot take a message: No space left on device; messages stay in drop/")
    wait_until(lambda: is_in_drop(mta, "large"), what="it to be back")
    assert not leftovers(mta)
    (mta.disk / "ballast").unlink()
    assert ids(mta.server.wait(1)) == ["<large@t>"]
    mta.wait_empty()


def test_re03_no_inodes(small):
    mta = small("size=60m,nr_inodes=3000")
    put(mta, "before", letter("before"))
    mta.server.wait(1)
    path = mta.disk / "ready"
    path.write_text(letter("waits"))
    path.chmod(0o644)
    hoard = mta.disk / "hoard"
    hoard.mkdir()
    with pytest.raises(OSError):
        for i in range(3000):
            (hoard / str(i)).touch()
    path.rename(mta.spool / "drop/waits")
    mta.wait_log(r"no room in the spool's file system: hardly any inode is free")
    assert is_in_drop(mta, "waits")
    for one in hoard.iterdir():
        one.unlink()
    assert ids(mta.server.wait(2)) == ["<before@t>", "<waits@t>"]


# --- a disk that fails

@pytest.fixture
def failing(make_mta, tmp_path):
    """Postern whose pickup is started with the shim; as root master gives no child an LD_PRELOAD, so by a script."""
    if SANITIZED:
        pytest.skip("the sanitizers want to be loaded first")
    mta = make_mta()
    build, real = mta.dir / "build", mta.dir / "real"
    shutil.copytree(BUILD / "sbin", build / "sbin")
    shutil.copytree(BUILD / "libexec", build / "libexec")
    (build / "share").symlink_to(BUILD / "share")
    real.mkdir()
    (build / "libexec/postern/pickup").rename(real / "pickup")
    (tmp_path / "shim.c").write_text(SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", real / "shim.so", tmp_path / "shim.c", "-ldl"], check=True)
    script = build / "libexec/postern/pickup"
    script.write_text(f'#!/bin/sh\nLD_PRELOAD={real}/shim.so exec {real}/pickup "$@"\n')
    script.chmod(0o755)
    mta.bin = build / "sbin/postern"
    mta.server = Sink(mta.dir)
    mta.start(mta.server.relay("out"))
    yield mta
    mta.server.stop()


@pytest.mark.parametrize("count", [1, 20], ids=["fsync", "syncfs"])
def test_re05_failed_sync_of_files_writes_them_anew(failing, count):
    """What was written is not trusted: another copy is made when the disk is well again."""
    fault = failing.spool / "fault-file"
    fault.touch()
    for i in range(count):
        failing.drop(letter(f"m{i}"), name=f"m{i}")
    failing.wait_log(r"cannot sync new messages: Input/output error; messages stay in drop/")
    wait_until(lambda: is_in_drop(failing, "m0"), what="it to be back")
    assert failing.server.count() == 0 and not leftovers(failing)
    fault.unlink()
    assert ids(failing.server.wait(count)) == sorted(f"<m{i}@t>" for i in range(count))
    failing.wait_empty()
    assert failing.server.count() == count


def test_re05_failed_sync_of_a_folder_starts_again(failing):
    """What is on disk is not known, so pickup ends, looks again, and announces nothing before a sync succeeded."""
    fault = failing.spool / "fault-folder"
    fault.touch()
    failing.drop(letter("one"))
    failing.wait_log(r"cannot sync the spool's folders: Input/output error", times=2)
    assert failing.server.count() == 0
    fault.unlink()
    failing.server.wait(1, timeout=60)
    failing.wait_empty()
    assert failing.server.count() == 1


def test_re06_read_only_disk(failing):
    fault = failing.spool / "fault-read-only"
    fault.touch()
    failing.drop(letter("one"), name="one")
    failing.wait_log(r"cannot take a message: Read-only file system; messages stay in drop/")
    assert is_in_drop(failing, "one")
    fault.unlink()
    failing.server.wait(1)
    failing.wait_empty()
    assert failing.server.count() == 1


# --- a message that never ends

def test_dr32_message_that_pickup_spins_on(failing):
    """Thirty seconds of its own processor time (here one) end it, twice; the message is put aside, the rest flows."""
    failing.allow += [r"signal 26"]
    (failing.spool / "fault-hang").touch()
    failing.drop(letter("hang", "HANG\n"), name="hang")
    wait_until(lambda: list((failing.spool / "rejected").glob("*.reason")), timeout=60, what="it to be rejected")
    reason = next((failing.spool / "rejected").glob("*.reason")).read_text()
    assert "brought Postern down twice" in reason
    failing.drop(letter("after"))
    assert ids(failing.server.wait(1)) == ["<after@t>"]
