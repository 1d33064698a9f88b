"""postern.conf through `postern check`: what it says, where, and with which status."""
import os
import re
import stat
import subprocess

import pytest

import harness

IS_ROOT = os.geteuid() == 0
MISTAKE = re.compile(r"postern: (?P<file>[^:]+):(?P<line>\d+): (?P<option>[a-z0-9|-]+): (?P<text>.+)")
SERVER = 'server "out" { host = "smtp.example.com" }\n'


class Checker:
    def __init__(self, folder):
        self.folder = folder
        self.file = folder / "postern.conf"
        (folder / "spool").mkdir(mode=0o755)
        (folder / "spool").chmod(0o755)

    def __call__(self, text, cwd=None, argument=None, **environment):
        """Exit status and mistakes as (line, option, text)."""
        self.file.write_bytes(text if isinstance(text, bytes) else text.encode())
        env = {"PATH": os.environ["PATH"], **environment}
        if harness.SANITIZED:
            env["ASAN_OPTIONS"] = "detect_leaks=1:abort_on_error=0"
        done = subprocess.run([harness.BUILD / "sbin/postern", "-c", argument or self.file, "check"], cwd=cwd, env=env,
                              capture_output=True, text=True, timeout=20 * harness.SLOW)
        assert not harness.ALARMS.search(done.stderr), done.stderr
        assert done.stdout == ""
        self.stderr = done.stderr
        mistakes = [MISTAKE.fullmatch(line) for line in done.stderr.splitlines()]
        assert all(mistakes), done.stderr
        return done.returncode, [(int(m["line"]), m["option"], m["text"]) for m in mistakes]

    def good(self, text, **more):
        assert self('spool = "spool"\n' + text, **more) == (0, [])


@pytest.fixture
def check(tmp_path):
    return Checker(tmp_path)


def test_right_is_silent(check):
    check.good(SERVER)


def test_relative_paths_hang_on_the_file_not_on_the_working_directory(check, tmp_path):
    check.good('log = "./postern.log"\n' + SERVER, cwd="/")
    check.good('log = "./postern.log"\n' + SERVER, cwd=tmp_path, argument="postern.conf")


def test_all_mistakes_in_one_go_in_order_of_line(check):
    status, mistakes = check("""workers = 99
hostnam = "x"
retry {
    max-age = 5
    max-age = "5d"
}
server "out" {
    prot = 25
    limits = { "200", "5/day" }
    tls = dane
}
server "out" { }
route "r" { servers = { "nobody" } }
""")
    assert status == 78
    assert [(line, option) for line, option, _ in mistakes] == [
        (1, "workers"), (2, "hostnam"), (4, "max-age"), (5, "max-age"), (7, "host"), (8, "prot"), (9, "limits"),
        (12, "server"), (13, "servers")]
    assert all(text for _, _, text in mistakes)
    assert 'did you mean "hostname"?' in mistakes[1][2]
    assert re.search(re.escape(str(check.file)) + ":1: ", check.stderr)


@pytest.mark.parametrize("text, line, option, words", [
    ("server \"a\" {\n host = \"h\"\n", 1, "server", "closing brace is missing"),
    ("spool = \"/x\nworkers = 1\n" + SERVER, 1, "spool", "closing quote"),
    ("workers = 1\n\nworkers = 1\n" + SERVER, 3, "workers", "given twice; the first is in line 1"),
    ("/* one\ntwo */ workers = 010\n" + SERVER, 2, "workers", "not a plain decimal number"),
    ("recipient-limit = 0x19\n" + SERVER, 1, "recipient-limit", "not a plain decimal number"),
    ("history = 7\n" + SERVER, 1, "history", 'has no unit; write "7s"'),
    ("hostname = ${HOME}\n" + SERVER, 1, "hostname", "environment variables are not expanded"),
    ("hostname = \"${HOSTNAME}\"\n" + SERVER, 1, "hostname", '"${HOSTNAME}" is not a host name'),
    ("include(\"x\")\n" + SERVER, 1, "include", "unknown option"),
    ("dns|timeout = 3s\n" + SERVER, 1, "dns|timeout", "unknown option"),
    (b"workers = 1\0 2\n" + SERVER.encode(), 1, "syntax", "control byte 0x00"),
    (b"hostname = \"\xff\"\n" + SERVER.encode(), 1, "hostname", "not valid UTF-8"),
])
def test_traps(check, text, line, option, words):
    status, mistakes = check(text, HOSTNAME="expanded.example")
    assert status == 78
    assert mistakes[0][:2] == (line, option)
    assert words in mistakes[0][2]


def test_what_is_no_file(check, tmp_path):
    for path, words in ((tmp_path, "is not a regular file"), (tmp_path / "none", "No such file"), ("/dev/null", "is not a regular")):
        done = subprocess.run([harness.BUILD / "sbin/postern", "-c", path, "check"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 78
        assert done.stderr.startswith(f"postern: {path}: ") and words in done.stderr
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = subprocess.run([harness.BUILD / "sbin/postern", "-c", pipe, "check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 78


def test_op06_spool(check, tmp_path):
    (tmp_path / "file").write_text("")
    assert check('spool = "file"\n' + SERVER) == (78, [(1, "spool", f"{tmp_path}/file is not a directory")])
    check.good(SERVER)
    (tmp_path / "spool").chmod(0o777)
    status, mistakes = check('\nspool = "spool"\n' + SERVER)
    assert status == 78 and mistakes[0][:2] == (2, "spool") and "may be written by others (mode 0777)" in mistakes[0][2]
    (tmp_path / "spool").chmod(0o755)
    assert check('spool = "to/be/made"\n' + SERVER) == (0, [])
    assert not (tmp_path / "to").exists()   # check changes nothing
    assert check('spool = "file/spool"\n' + SERVER) == (78, [(1, "spool", f"{tmp_path}/file/spool: Not a directory")])


def test_op13_named_files(check, tmp_path):
    empty = tmp_path / "empty"
    empty.write_text("")
    text = '\nspool = "spool"\nserver "out" {{ host = "smtp.example.com" {} }}\n'
    assert check(text.format('tls-ca-file = "none"')) == \
        (78, [(3, "tls-ca-file", f"{tmp_path}/none: No such file or directory")])
    assert check(text.format('tls-ca-file = "empty"')) == (78, [(3, "tls-ca-file", f"{empty} is empty")])
    empty.write_text("no certificate")
    assert check(text.format('tls-ca-file = "empty"')) == \
        (78, [(3, "tls-ca-file", f"{empty} holds no certificate in PEM form")])
    assert check('dns { trust-anchor-file = "none" }\n' + text.format(""))[0] == 78
    assert check('log = "no/log"\n' + text.format("")) == \
        (78, [(1, "log", f"{tmp_path}/no/log cannot be made: {tmp_path}/no: No such file or directory")])


def test_file_that_everyone_may_write(check):
    check.good(SERVER)
    check.file.chmod(0o666)
    status, mistakes = check('spool = "spool"\n' + SERVER)
    assert status == 78 and mistakes == [(1, "file", f"may be written by everyone (mode 0666); chmod o-w {check.file}")]


@pytest.mark.skipif(not IS_ROOT, reason="only root changes users")
def test_op11_users(check):
    status, mistakes = check('spool = "spool"\nuser = "no-such-user"\nsmtp-user = "root"\ndrop-group = "no-such-group"\n' + SERVER)
    assert status == 78
    assert [m[:2] for m in mistakes] == [(2, "user"), (3, "smtp-user"), (4, "drop-group")]
    assert 'there is no user "no-such-user"' in mistakes[0][2]
    assert '"root" is root; name an ordinary user' == mistakes[1][2]


def test_password_is_never_shown(check):
    status, _ = check(SERVER.replace("}", 'username = u password = hush hush }'))
    assert status == 78 and "hush" not in check.stderr


def test_shipped_sample_is_right(check, tmp_path):
    sample = (harness.ROOT / "conf/postern.conf").read_text()
    assert "server \"direct\"" in sample
    check.good(sample)


def test_check_changes_nothing(check, tmp_path):
    check.good(SERVER)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["postern.conf", "spool"]
    assert list((tmp_path / "spool").iterdir()) == []
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o755
