"""Master: starting, watching, restarting, reloading, stopping."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from fake_smtp import Server, ordinary
from harness import BUILD, SLOW, wait_until

CONF = 'server "out" { method = relay host = "127.0.0.1" port = 9 tls = none }\n'
CHILDREN = ["resolver", "limiter", "smtpout", "scheduler", "pickup"]
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def written(mta):
    """run/status.json: master's own words, without asking the scheduler."""
    return json.loads((mta.spool / "run/status.json").read_text())


def processes(mta):
    return {p["name"]: p for p in written(mta)["processes"]}


def wait_up(mta):
    return wait_until(lambda: written(mta)["state"] == "up" and
                      all(p["state"] == "up" for p in written(mta)["processes"]) and processes(mta), what="all to be up")


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("name", CHILDREN)
def test_killed_child_alone_comes_back(mta, name):
    mta.start(CONF)
    before = wait_up(mta)
    os.kill(before[name]["pid"], signal.SIGKILL)
    wait_until(lambda: processes(mta)[name]["restarts"] == 1)
    after = wait_up(mta)
    for child in CHILDREN:
        if child == name:
            assert after[child]["pid"] != before[child]["pid"]
        else:
            assert after[child]["pid"] == before[child]["pid"] and after[child]["restarts"] == 0
    assert mta.grep(rf"master\[\d+\]: warning: {name}.* was killed by signal 9")


def test_killed_child_is_back_at_once(mta):
    mta.start(CONF)
    before = wait_up(mta)["pickup"]["pid"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: processes(mta)["pickup"]["pid"] not in (0, before))
    assert not mta.grep("starting it again in")


def test_crash_loop_is_slowed_down_and_hurts_nobody(mta):
    """CR21: a child that always dies is started more and more rarely."""
    mta.start(CONF)
    others = {n: p["pid"] for n, p in wait_up(mta).items() if n != "pickup"}
    for death in range(4):
        pid = wait_until(lambda: processes(mta)["pickup"]["state"] == "up" and processes(mta)["pickup"]["pid"])
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: processes(mta)["pickup"]["pid"] != pid)
    assert processes(mta)["pickup"]["state"] == "waiting"
    mta.wait_log(r"pickup died 4 times in a row: starting it again in 1 s")
    died = time.monotonic()
    assert wait_up(mta)["pickup"]["restarts"] == 4
    assert time.monotonic() - died > 0.5
    assert {n: p["pid"] for n, p in processes(mta).items() if n != "pickup"} == others


def test_silent_child_is_killed_and_restarted(mta):
    plain = mta.environment
    mta.environment = lambda **more: plain(POSTERN_TEST_HEARTBEAT_MS="300", **more)
    mta.start(CONF)
    before = wait_up(mta)
    os.kill(before["limiter"]["pid"], signal.SIGSTOP)
    mta.wait_log(r"error: limiter \(pid \d+\) no longer answers: killed")
    wait_until(lambda: processes(mta)["limiter"]["restarts"] == 1)
    after = wait_up(mta)
    assert after["limiter"]["pid"] != before["limiter"]["pid"]
    assert after["scheduler"]["pid"] == before["scheduler"]["pid"]


def test_reload_replaces_every_process(mta):
    mta.start(CONF)
    before = wait_up(mta)
    mta.configure(CONF + "message-size-limit = \"1m\"\n")
    done = mta.postern("reload")
    assert (done.returncode, done.stdout) == (0, "postern reloaded\n"), done.stderr
    after = wait_up(mta)
    assert all(after[n]["pid"] != before[n]["pid"] for n in CHILDREN)
    assert written(mta)["reloads"] == 1
    mta.wait_log("all processes run with the new configuration")


def test_op03_wrong_configuration_changes_nothing(mta):
    mta.start(CONF)
    before = wait_up(mta)
    mta.configure(CONF + "retires = 3\nmessage-size-limit = \"many\"\n")
    done = mta.postern("reload")
    assert done.returncode == 78
    assert "retires" in done.stderr and "message-size-limit" in done.stderr
    os.kill(written(mta)["pid"], signal.SIGHUP)        # who does not ask `postern` first
    wait_until(lambda: written(mta)["refused_reloads"] == 1)
    assert mta.grep("error: .*retires") and mta.grep("everything stays as it was")
    assert processes(mta) == before
    assert mta.postern("status").returncode == 0       # a broken file does not hide a running instance
    assert mta.stop() == 0


def test_spool_cannot_move_by_reload(mta):
    mta.start(CONF)
    before = wait_up(mta)
    text = mta.conf.read_text()
    mta.conf.write_text(text.replace(str(mta.spool), str(mta.dir / "elsewhere")))
    os.kill(written(mta)["pid"], signal.SIGHUP)
    mta.wait_log("spool: changed from .* needs `postern restart`")
    assert processes(mta) == before
    mta.conf.write_text(text)


def test_more_workers_by_reload(mta):
    mta.start(CONF)
    wait_up(mta)
    mta.configure(CONF + "workers = 3\n")
    assert mta.postern("reload").returncode == 0
    wait_until(lambda: [p["state"] for p in written(mta)["processes"] if p["name"] == "smtpout"] == ["up"] * 3)
    wait_up(mta)
    mta.configure(CONF + "workers = 1\n")
    assert mta.postern("reload").returncode == 0
    mta.wait_log("workers: 1 instead of 3 only after")
    wait_up(mta)
    assert sum(p["name"] == "smtpout" for p in written(mta)["processes"]) == 3


def test_op07_second_master_refuses(mta):
    mta.start(CONF)
    done = mta.postern("run")
    assert done.returncode == 69
    assert f"another master (pid {written(mta)['pid']}) runs on the spool" in done.stderr
    wait_up(mta)


def test_words_and_statuses_of_the_commands(mta):
    mta.configure(CONF)
    for command in ["stop", "status"]:
        done = mta.postern(command)
        assert (done.returncode, done.stdout) == (3 if command == "status" else 0, "postern is not running\n")
    assert mta.postern("reload").returncode == 69
    assert mta.postern("queue").returncode == 69
    assert json.loads(mta.postern("status", "--json").stdout)["pid"] is None
    done = mta.postern("start")
    try:
        pid = written(mta)["pid"]
        assert (done.returncode, done.stdout) == (0, f"postern started (pid {pid})\n"), done.stderr
        assert mta.postern("start").stdout == f"postern is already running (pid {pid})\n"
        wait_up(mta)                                   # start returned when mail could flow
        done = mta.postern("restart")
        assert done.returncode == 0 and written(mta)["pid"] != pid
        mta.conf.write_text(mta.conf.read_text() + "nonsense\n")
        assert mta.postern("restart").returncode == 78  # and it still runs:
        wait_up(mta)
    finally:
        done = mta.postern("stop", "--timeout", "20s")
    assert (done.returncode, done.stdout) == (0, "postern stopped\n")
    assert not mta.pids()
    assert (mta.spool / "run/master.pid").read_text() == ""


def test_status_of_many_servers(mta):
    """The scheduler makes such a long answer in portions."""
    mta.start("".join(f'server "s{i}" {{ method = relay host = "mx{i}.there.example" limits = {{ "{i + 1}/hour" }} tls = none }}\n'
                      for i in range(2000)))
    wait_up(mta)
    servers = mta.json("status")[0]["servers"]
    assert [server["name"] for server in servers] == [f"s{i}" for i in range(2000)]
    assert [server["limits"][0]["allowed"] for server in servers] == list(range(1, 2001))


def test_stop_takes_no_longer_than_it_was_given(mta):
    """A server that never answers the final dot: the transaction is broken off in time, and stays in the queue."""
    asked = threading.Event()

    def never(message):
        asked.set()
        server.stopping.wait()
    server = Server(lambda s: (s.say("220 hi"), s.serve(dot=never)))
    with server:
        mta.start(f'server "out" {{ host = "{server.address}" port = {server.port} tls = none }}\n')
        mta.drop("From: a@here.example\nTo: x@there.example\n\nhello\n")
        assert asked.wait(20 * SLOW)
        begun = time.monotonic()
        done = mta.postern("stop", "--timeout", "2s")
        took = time.monotonic() - begun
        server.stopping.set()
    assert done.returncode == 0 and "broken off" in done.stderr
    assert took < 15, took
    assert len(list(mta.spool.glob("queue/*/*"))) == 1


def test_what_a_hurried_stop_breaks_off_is_named(mta, server):
    """A server had the whole message and did not answer: it goes again, and the log says that this may be a repetition."""
    asked = threading.Event()
    slow = server(lambda s: (s.say("220 hi"), s.serve(dot=lambda m: asked.set() or s.pause(60))))
    mta.allow.append("signal 9")
    mta.start(f'retry {{ after = {{ "1s" }} }}\nserver "out" {{ host = "{slow.address}" port = {slow.port} tls = none }}\n')
    mta.drop("From: a@here.example\nTo: x@there.example\n\nhello\n")
    assert asked.wait(20 * SLOW)
    mta.process.terminate()
    mta.wait_log("postern/master.*stopping")
    assert mta.stop() == 0
    slow.scripts = [ordinary]
    mta.start()
    slow.wait(1)
    mta.wait_empty()
    assert len(mta.grep("possibly repeated")) == 1


@pytest.mark.parametrize("arguments, complaint", [
    (["--frobnicate"], "postern: unrecognized option '--frobnicate'"),
    (["-c"], "postern: option requires an argument -- 'c'"),
    (["status", "--what"], "postern: status: unrecognized option '--what'"),
    (["queue", "--older"], "postern: queue: option '--older' requires an argument"),
    (["stop", "--now"], "postern: stop: unrecognized option '--now'"),
    (["limits", "--what"], "postern: limits: unrecognized option '--what'"),
    (["limits", "set", "--what"], "postern: limits: unrecognized option '--what'"),
    (["test", "isp", "--what"], "postern: test: unrecognized option '--what'"),
])
def test_who_complains_of_an_option(mta, arguments, complaint):
    mta.configure(CONF)
    done = mta.postern(*arguments)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[0]) == (64, "", complaint)


def test_usage(mta):
    mta.configure(CONF)
    assert mta.postern().returncode == 64
    assert mta.postern("--help").returncode == 0
    assert mta.postern("frobnicate").returncode == 64
    assert mta.postern("start", "--timeout", "soon").returncode == 64
    assert mta.postern("status", "what").returncode == 64
    assert mta.postern("hold").returncode == 64
    assert mta.postern("queue", "not-an-id").returncode == 64
    done = mta.postern("doctor")
    assert done.returncode == 64 and "not available in this version" in done.stderr
    commands = re.findall(r"^  (\w+)  ", mta.postern("--help").stdout, re.M)
    assert {"check", "queue", "presets"} <= set(commands)
    for command in commands:
        done = mta.postern(command, "--help")
        assert done.returncode == 0 and done.stdout.startswith("usage: postern"), command
    mta.conf.write_text("servers = { \"nobody\" }\n")
    done = mta.postern("check")
    assert done.returncode == 78 and done.stderr.startswith(f"postern: {mta.conf}:1: ")


@pytest.mark.parametrize("name", CHILDREN)
def test_children_are_not_started_by_hand(name):
    program = BUILD / "libexec/postern" / name
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 64 and "started by its master" in done.stderr
    assert subprocess.run([program, "--help"], capture_output=True).returncode == 0


def test_systemd_is_told(mta):
    mta.configure(CONF)
    path = mta.dir / "told"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))
        told.settimeout(20 * SLOW)
        with open(mta.dir / "stderr", "ab") as err:
            mta.process = subprocess.Popen([mta.bin, "-c", mta.conf, "run"], stdin=subprocess.DEVNULL, stderr=err,
                                           env=mta.environment(NOTIFY_SOCKET=str(path)))
        ready = told.recv(4096).decode()
        assert "READY=1" in ready and f"MAINPID={mta.process.pid}" in ready
        mta.process.send_signal(signal.SIGHUP)
        assert "RELOADING=1\nMONOTONIC_USEC=" in told.recv(4096).decode()
        assert "READY=1" in told.recv(4096).decode()
        for pid in mta.pids("pickup") if os.geteuid() == 0 else ():  # nobody else may speak for the service
            with open(f"/proc/{pid}/environ", "rb") as file:
                assert b"NOTIFY_SOCKET" not in file.read()
        mta.process.send_signal(signal.SIGTERM)
        assert "STOPPING=1" in told.recv(4096).decode()
        assert mta.process.wait(20 * SLOW) == 0


def test_orphans_of_a_killed_master_end_and_the_next_one_works(mta):
    mta.start(CONF)
    pids = [p["pid"] for p in wait_up(mta).values()]
    mta.process.kill()
    mta.process.wait()
    wait_until(lambda: not any(map(is_alive, pids)), what="orphans to end")
    mta.start()
    wait_up(mta)


def test_next_master_waits_for_orphans(mta):
    """CR19: no two generations of processes work on one spool."""
    mta.start(CONF)
    lagger = wait_up(mta)["smtpout"]["pid"]
    os.kill(lagger, signal.SIGSTOP)
    mta.process.kill()
    mta.process.wait()
    try:
        with open(mta.dir / "stderr", "ab") as err:
            mta.process = subprocess.Popen([mta.bin, "-c", mta.conf, "run"], stdin=subprocess.DEVNULL, stderr=err,
                                           env=mta.environment())
        wait_until(lambda: "waiting for processes of the last master" in mta.stderr())
        assert set(mta.pids()) == {mta.process.pid, lagger}
        assert written(mta)["state"] == "starting" and written(mta)["processes"] == []
    finally:
        os.kill(lagger, signal.SIGCONT)
    wait_until(lambda: not is_alive(lagger))
    wait_up(mta)


@ROOT_ONLY
def test_as_process_one(mta):
    """In a container: starts, reaps what others orphan, stops when told."""
    mta.configure(CONF)
    with open(mta.dir / "stderr", "ab") as err:
        mta.process = subprocess.Popen(["unshare", "-pf", "--kill-child", "--mount-proc", mta.bin, "-c", mta.conf, "run"],
                                       stdin=subprocess.DEVNULL, stderr=err, env=mta.environment())
    wait_until(lambda: (mta.spool / "run/status.json").exists() and written(mta)["state"] == "up")
    assert written(mta)["pid"] == 1
    master, = mta.pids("master")
    subprocess.run(["nsenter", "-t", str(master), "-p", "-m", "sh", "-c", "(sleep 0.05 &)"], check=True)
    zombies = ["sh", "-c", f"ps -o stat= --ppid {master} | grep -c Z"]
    wait_until(lambda: "sleep" not in subprocess.run(["ps", "-o", "comm=", "--ppid", str(master)], capture_output=True,
                                                     text=True).stdout)
    assert subprocess.run(zombies, capture_output=True, text=True).stdout.strip() == "0"
    os.kill(master, signal.SIGTERM)
    assert mta.process.wait(20 * SLOW) == 0
    assert written(mta)["state"] == "stopped"


@ROOT_ONLY
def test_as_an_ordinary_user(mta):
    """The whole instance is that user's, says so once, and still has its walls."""
    mta.open_to_all().configure(CONF)
    for path in (mta.dir, mta.conf):
        shutil.chown(path, "nobody")
    with open(mta.dir / "stderr", "ab") as err:
        mta.process = subprocess.Popen(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", mta.bin, "-c",
                                        mta.conf, "run"], stdin=subprocess.DEVNULL, stderr=err, env=mta.environment())
    wait_until(lambda: (mta.spool / "run/status.json").exists() and written(mta)["state"] == "up")
    assert len(mta.grep("privileges are not separated")) == 1
    for pid in mta.pids():
        with open(f"/proc/{pid}/status") as file:
            assert "Uid:\t65534\t65534\t65534\t65534\n" in file.read()


def test_a_log_that_nobody_reads_holds_up_nobody(mta):
    """A FIFO in place of the log file: to open it must not mean to wait for a reader."""
    mta.configure('log = "./fifo"\n' + CONF)
    os.mkfifo(mta.dir / "fifo")
    done = mta.postern("start", "--timeout", "5s")
    assert done.returncode == 71 and 'cannot open the log "' in done.stderr
    wait_until(lambda: not mta.pids())


SYSLOGD = """
import os, socket, sys, time
def serve(seconds, name):
    if os.path.exists("/dev/log"):
        os.unlink("/dev/log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log, open(sys.argv[1], "ab", 0) as out:
        log.bind("/dev/log")
        os.chmod("/dev/log", 0o666)
        log.settimeout(0.05)
        end = time.monotonic() + seconds
        while time.monotonic() < end and not os.path.exists(sys.argv[1] + name):
            try:
                out.write(name.encode() + log.recv(8192).rstrip() + b"\\n")
            except TimeoutError:
                pass
serve(30, ".first")
serve(30, ".second")
"""


@ROOT_ONLY
def test_syslogd_may_be_restarted(mta):
    """RE11: processes in their jails cannot reach /dev/log again; master connects the socket that all share."""
    dev, caught = mta.dir / "dev", mta.dir / "caught"
    dev.mkdir()
    (mta.dir / "syslogd.py").write_text(SYSLOGD)
    mta.configure(CONF + 'log = "syslog"\n')
    script = f"""
        mount -t tmpfs none {dev} && cp -a /dev/null /dev/zero /dev/random /dev/urandom {dev} && mount --bind {dev} /dev
        /usr/bin/python3 {mta.dir}/syslogd.py {caught} & while ! test -S /dev/log; do sleep 0.05; done
        exec {mta.bin} -c {mta.conf} run
    """
    with open(mta.dir / "stderr", "ab") as err:
        mta.process = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdin=subprocess.DEVNULL, stderr=err,
                                       env=mta.environment(POSTERN_TEST_HEARTBEAT_MS="200"))
    try:
        wait_until(lambda: (mta.spool / "run/status.json").exists() and wait_up(mta))
        wait_until(lambda: b"postern/master" in caught.read_bytes())
        (mta.dir / "caught.first").touch()                 # that syslogd goes, the next comes
        def scheduler_is_heard():
            mta.postern("hold", "--all")                   # the scheduler logs what operators do
            return any(line.startswith(b".second") and b"postern/scheduler" in line
                       for line in caught.read_bytes().splitlines())
        wait_until(scheduler_is_heard)
    finally:
        (mta.dir / "caught.first").touch()
        (mta.dir / "caught.second").touch()
