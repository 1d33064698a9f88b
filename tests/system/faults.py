"""Faults that the world does not give on demand: a clock that is set, a disk that fails, a death at a chosen call.

    def test_something(faulty, sink):
        mta = faulty("scheduler", "limiter")    # not started yet; these processes see the faults
        mta.start(...)
        mta.faults.clock_ms = 7 * DAY           # at once, for all of them
        mta.faults.sleep(12 * HOUR)             # the machine, without waiting
        mta.faults.on(READ_ONLY)
        mta.faults.countdown = 12               # who makes the twelfth call from now on dies of it
"""
import ctypes
import itertools
import mmap
import os
import shutil
import struct
import subprocess
import time
import uuid
from pathlib import Path

from harness import BUILD

FILE_SYNC, FOLDER_SYNC, READ_ONLY, HANG, STALL, CRASH = 1, 2, 4, 8, 16, 32
PROGRAMS = ("pickup", "scheduler", "resolver", "limiter", "smtpout")
HERE = Path(__file__).resolve().parent


def number(at):
    def get(self):
        return struct.unpack_from("=q", self.page, at)[0]

    def put(self, value):
        struct.pack_into("=q", self.page, at, value)
    return property(get, put)


class Faults:
    clock_ms, bits, countdown, calls, stalled, slept_ms = (number(8 * i) for i in range(6))

    def __init__(self, path):
        self.path = path
        path.write_bytes(bytes(48))
        path.chmod(0o666)
        with open(path, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), 48)

    def sleep(self, ms):
        self.slept_ms += ms
        self.path.touch()

    def reboot(self, clock_ms=0):
        """While nothing runs: another boot, ten seconds old, whose wall clock is off by so much."""
        self.slept_ms = 10_000 - time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
        self.clock_ms = clock_ms - self.slept_ms
        self.path.with_name(self.path.name + ".boot_id").write_text(str(uuid.uuid4()) + "\n")

    def on(self, fault):
        self.bits |= fault

    def off(self, fault):
        self.bits &= ~fault


def prepare(mta, programs):
    """A copy of the build in which these programs are scripts: as root master gives no child an LD_PRELOAD."""
    mta.faults = Faults(mta.dir / "faults")
    build = mta.dir / "build"
    for part in ("sbin", "libexec"):
        shutil.copytree(BUILD / part, build / part)
    (build / "share").symlink_to(BUILD / "share")
    real = build / "libexec/real"            # as far from share/ as they were
    real.mkdir()
    shim = real / "faults.so"
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", shim, HERE / "faults.c", "-ldl"], check=True)
    for program in programs:
        script = build / "libexec/postern" / program
        script.rename(real / program)
        script.write_text(f'#!/bin/sh\nPOSTERN_TEST_FAULTS={mta.dir}/faults LD_PRELOAD={shim} exec {real}/{program} "$@"\n')
        os.chmod(script, 0o755)
    mta.bin = build / "sbin/postern"
    return mta


# --- a small file system

CLONE_NEWNS = 0x20000


class SmallDisk:
    """A tmpfs below mta.dir for the spool, in a mount namespace that this process enters for the test."""

    def __init__(self, mta):
        self.path = mta.dir / "disk"
        self.path.mkdir()
        self.path.chmod(0o755)
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.outside = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self.is_ours = self.libc.unshare(CLONE_NEWNS) == 0 and subprocess.run(["mount", "--make-rprivate", "/"]).returncode == 0

    def mount(self, options):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=755,{options}", "small", self.path], check=True)

    def resize(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", self.path], check=True)

    def fill(self, leave=0):
        """A ballast file that leaves so many bytes."""
        fs = os.statvfs(self.path)
        with open(self.path / "ballast", "wb") as f:
            os.posix_fallocate(f.fileno(), 0, fs.f_bavail * fs.f_frsize - leave)

    def empty(self):
        (self.path / "ballast").unlink()

    def use_up_inodes(self):
        hoard = self.path / "hoard"
        hoard.mkdir(exist_ok=True)
        for i in itertools.count(len(os.listdir(hoard))):
            try:
                (hoard / str(i)).touch()
            except OSError:
                return

    def free_inodes(self):
        shutil.rmtree(self.path / "hoard")

    def close(self):
        subprocess.run(["umount", "-l", self.path], check=False, stderr=subprocess.DEVNULL)
        self.libc.setns(self.outside, CLONE_NEWNS)
        os.close(self.outside)
