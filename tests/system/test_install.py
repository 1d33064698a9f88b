"""`make install` into a folder of its own; then, as root, what each process of the installed tree really holds."""
import os
import re
import shlex
import shutil
import stat
import subprocess

import pytest

from harness import BUILD, ROOT, SANITIZED, SLOW, wait_until

CONF = 'server "out" { method = relay host = "127.0.0.1" port = 9 tls = none }\n'
PROGRAMS = ["sbin/postern"] + [f"libexec/postern/{n}" for n in ("master", "pickup", "scheduler", "resolver", "limiter", "smtpout", "servertest", "token")]
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
# program: (user, extra group, folder below the spool that is its root)
IDENTITIES = {
    "pickup": ("postern", "postern-drop", ""),
    "scheduler": ("postern", None, ""),
    "limiter": ("postern", None, "db/limits"),
    "resolver": ("postern-smtp", None, "run/empty"),
    "smtpout": ("postern-smtp", None, "queue"),
}
KEPT_BY_MASTER = ["chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
                  "sys_chroot", "sys_resource"]
CAPABILITIES = {"chown": 0, "dac_override": 1, "dac_read_search": 2, "fowner": 3, "fsetid": 4, "kill": 5, "setgid": 6,
                "setuid": 7, "setpcap": 8, "sys_chroot": 18, "sys_resource": 24}


def install(destdir, prefix="/usr"):
    flavour = [f"FLAVOUR={BUILD.name}"] if BUILD.name != "build" else []
    done = subprocess.run(["make", "-C", ROOT, "install", f"DESTDIR={destdir}", f"PREFIX={prefix}", *flavour],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return destdir / prefix.lstrip("/")


@pytest.fixture
def tree(mta):
    destdir = mta.dir / "root"
    destdir.mkdir()
    destdir.chmod(0o755)
    return destdir


def test_everything_is_where_the_interface_says(tree):
    base = install(tree)
    for program in PROGRAMS:
        mode = (base / program).stat().st_mode
        assert stat.S_IMODE(mode) == 0o755, program
    for page in ("man8/postern.8", "man8/postern-master.8", "man5/postern.conf.5", "man7/postern-spool.7"):
        assert (base / "share/man" / page).exists(), page
    unit = (base / "lib/systemd/system/postern.service").read_text()
    assert "ExecStart=/usr/sbin/postern -c /etc/postern/postern.conf run" in unit and "@" not in unit
    patience, ours = (re.search(pattern, unit)[1] for pattern in (r"TimeoutStopSec=(\d+)min\n", r" stop --timeout (\d+)m30s\n"))
    assert int(ours) < int(patience), "systemd would kill all at once"
    assert "u postern " in (base / "lib/sysusers.d/postern.conf").read_text()
    assert "/var/spool/postern" in (base / "lib/tmpfiles.d/postern.conf").read_text()
    assert (tree / "etc/postern/postern.conf").read_text() == (ROOT / "conf/postern.conf").read_text()


@ROOT_ONLY
def test_systemd_makes_the_users(tree):
    """passwd(5) has no room for a colon in a user's description; systemd-sysusers leaves such a user out."""
    lines = [shlex.split(line, comments=True) for line in (install(tree) / "lib/sysusers.d/postern.conf").read_text().splitlines()]
    assert {(kind, name) for kind, name, *_ in filter(None, lines)} == {("u", "postern"), ("u", "postern-smtp"), ("g", "postern-drop")}
    assert not any(":" in field for line in lines for field in line)
    if shutil.which("systemd-sysusers"):
        (tree / "etc").mkdir(exist_ok=True)
        subprocess.run(["systemd-sysusers", f"--root={tree}", "postern.conf"], check=True)
        assert re.findall(r"^postern[^:]*", (tree / "etc/passwd").read_text(), re.M) == ["postern", "postern-smtp"]


def test_installing_again_keeps_the_configuration(tree):
    install(tree)
    conf = tree / "etc/postern/postern.conf"
    conf.write_text("# mine\n")
    install(tree)
    assert conf.read_text() == "# mine\n"


def test_prefix(tree):
    base = install(tree, "/opt/postern")
    assert (base / "sbin/postern").exists()
    assert "ExecStart=/opt/postern/sbin/postern" in (base / "lib/systemd/system/postern.service").read_text()
    done = subprocess.run([base / "sbin/postern", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("postern ")


# --- what the processes hold

def status_of(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def descriptors(pid):
    """{number: what it is}"""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            pass
    return found


def number(table, name):
    return int(subprocess.run(["getent", table, name], capture_output=True, text=True, check=True).stdout.split(":")[2])


def primary_group(user):
    return int(subprocess.run(["id", "-g", user], capture_output=True, text=True, check=True).stdout)


@pytest.fixture
def installed(make_mta, tree):
    base = install(tree)
    mta = make_mta()
    mta.bin = base / "sbin/postern"
    mta.start(CONF)
    return mta


def pid_of(mta, name):
    pid, = mta.pids(name)
    return pid


@ROOT_ONLY
@pytest.mark.parametrize("name", IDENTITIES)
def test_ip07_child_holds_nothing_it_does_not_need(installed, name):
    pid = pid_of(installed, name)
    user, group, folder = IDENTITIES[name]
    status = status_of(pid)
    uid, gid = number("passwd", user), primary_group(user)
    assert status["Uid"].split() == [str(uid)] * 4
    assert status["Gid"].split() == [str(gid)] * 4
    assert status["Groups"].split() == ([str(number("group", group))] if group else [])
    for which in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[which], 16) == 0, which
    assert status["NoNewPrivs"] == "1"
    if not SANITIZED:
        assert status["Seccomp"] == "2"
        assert os.stat(f"/proc/{pid}/fd").st_uid == 0          # not dumpable: /proc/PID belongs to root
        assert os.readlink(f"/proc/{pid}/root") == str(installed.spool / folder).rstrip("/")
    assert os.readlink(f"/proc/{pid}/cwd") == str(installed.spool / folder).rstrip("/")
    assert os.readlink(f"/proc/{pid}/exe") == str(installed.bin.parent.parent / "libexec/postern" / name)
    limits = open(f"/proc/{pid}/limits").read()
    assert re.search(r"Max core file size\s+0\s+0", limits)


def expected_descriptor(name, fd, target, spool):
    """What a child may have open: its standard ones, what master gives, its loop, and its own folder's files."""
    common = (r"/dev/null", r"pipe:\[\d+\]", r"anon_inode:\[?(eventpoll|eventfd|signalfd|timerfd)\]?", r"socket:\[\d+\]",
              re.escape(f"{spool.parent}/") + r"(log|stderr)", re.escape(f"{spool}/run/lock"), r"/memfd:postern\.\w+ \(deleted\)")
    own = {
        "pickup": (r"anon_inode:inotify", re.escape(str(spool)) + r"(/drop|/incoming|/rejected)?"),
        "scheduler": (re.escape(str(spool)) + r"(/incoming|/queue|/queue/..|/dead|/history(/[^/]+)?|/db/queue(/[^/]+)?)?",
                      r"/memfd:[\w.-]*board[\w.-]* \(deleted\)"),
        "limiter": (re.escape(str(spool)) + r"/db/limits(/[^/]+)?",),
        "resolver": (re.escape(str(spool)) + r"/run/empty",),
        "smtpout": (re.escape(str(spool)) + r"/queue", r"/memfd:[\w.-]*board[\w.-]* \(deleted\)"),
    }[name]
    return any(re.fullmatch(pattern, target) for pattern in common + own)


@ROOT_ONLY
@pytest.mark.parametrize("name", IDENTITIES)
def test_child_has_only_its_own_descriptors(installed, name):
    """IP06: nothing of master's or of another child's is inherited."""
    strange = {fd: target for fd, target in descriptors(pid_of(installed, name)).items()
               if not expected_descriptor(name, fd, target, installed.spool)}
    assert not strange


@ROOT_ONLY
def test_children_share_pipes_with_scheduler_and_master_only(installed):
    pipes = {name: {t for t in descriptors(pid_of(installed, name)).values() if t.startswith("pipe:")}
             for name in IDENTITIES}
    for name in IDENTITIES:
        for other in IDENTITIES:
            if name < other and "scheduler" not in (name, other):
                assert not pipes[name] & pipes[other], f"{name} and {other} talk to one another"
        assert name == "scheduler" or len(pipes[name] & pipes["scheduler"]) == 2


@ROOT_ONLY
def test_only_resolver_and_smtpout_may_have_network_sockets(installed):
    for name in ("pickup", "scheduler", "limiter"):
        inodes = {t[8:-1] for t in descriptors(pid_of(installed, name)).values() if t.startswith("socket:")}
        for table in ("tcp", "tcp6", "udp", "udp6"):
            with open(f"/proc/net/{table}") as file:
                assert not inodes & {line.split()[9] for line in file}, name


@ROOT_ONLY
def test_master_keeps_few_capabilities(installed):
    status = status_of(pid_of(installed, "master"))
    kept = sum(1 << CAPABILITIES[name] for name in KEPT_BY_MASTER)
    assert int(status["CapEff"], 16) & ~kept == 0 and int(status["CapBnd"], 16) & ~kept == 0
    assert int(status["CapEff"], 16) & (1 << CAPABILITIES["setuid"])
    assert status["NoNewPrivs"] == "1"


@ROOT_ONLY
def test_spool_modes(installed):
    spool = installed.spool
    user, smtp, drop = number("passwd", "postern"), primary_group("postern-smtp"), number("group", "postern-drop")
    expected = {"drop": (0o3730, user, drop), "incoming": (0o2750, user, smtp), "queue": (0o2750, user, smtp),
                "rejected": (0o700, user, None), "db/queue": (0o700, user, None), "db/limits": (0o700, user, None),
                "history": (0o700, user, None), "dead": (0o700, user, None), "run": (0o755, 0, None)}
    for name, (mode, owner, group) in expected.items():
        st = (spool / name).stat()
        assert stat.S_IMODE(st.st_mode) == mode and st.st_uid == owner, name
        assert group is None or st.st_gid == group, name
    st = (spool / "run/control").stat()
    assert stat.S_IMODE(st.st_mode) == 0o660 and st.st_uid == 0 and st.st_gid == primary_group("postern")


@ROOT_ONLY
def test_spool_of_an_ordinary_user_becomes_roots(make_mta):
    """adduser(8) makes a home, or the instance ran as `user` before: its processes must not have a hold on master."""
    mta = make_mta()
    uid = number("passwd", "postern")
    (mta.spool / "run").mkdir(parents=True)
    for name in ("master.pid", "lock"):
        (mta.spool / "run" / name).touch()
    for path in (mta.spool, *mta.spool.rglob("*")):
        os.chown(path, uid, -1)
    mta.start(CONF)
    for path in (mta.spool, mta.spool / "run", mta.spool / "run/master.pid", mta.spool / "run/lock", mta.spool / "run/control"):
        assert path.stat().st_uid == 0, path


@ROOT_ONLY
def test_operator_of_no_rights_is_told_so(installed):
    done = subprocess.run(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", installed.bin, "-c",
                           installed.conf, "queue"], capture_output=True, text=True, timeout=20 * SLOW)
    assert done.returncode == 77 and "ermission denied" in done.stderr


@ROOT_ONLY
def test_op11_missing_user_is_a_configuration_mistake(make_mta):
    mta = make_mta(users=("no-such-user", "postern-smtp", "postern-drop"))
    mta.configure(CONF)
    done = mta.postern("start")
    assert done.returncode == 78 and "no-such-user" in done.stderr
    wait_until(lambda: not mta.pids())
