"""Fixtures of the system and crash tests; counts them for `make check`."""
import os
import re
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS / "fake"), str(TESTS / "system")]

import fake_dns  # noqa: E402
import fake_smtp  # noqa: E402
import faults  # noqa: E402
import harness  # noqa: E402
import peers  # noqa: E402


IS_ROOT = os.geteuid() == 0


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: measures or loads the machine, so nothing else may run beside it")
    config.addinivalue_line("markers", "final: asserts what no slow machine excuses (nothing lost or doubled, no limit "
                                       "exceeded): one failure is the last word")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    setattr(item, "report_" + report.when, report)


ORDINARY = re.compile(r": uid=\d+ from=|nrcpt=\d+ \(queue active\)|: removed$|status=sent")


def show(title, text, most=4000):
    """The end of a text, and of a log also the lines further up that are not everyday."""
    if text:
        odd = [line for line in text[:-most].splitlines() if not ORDINARY.search(line)]
        print(f"----- {title}", *odd[-60:], "..." if odd else "", text[-most:], sep="\n")


@pytest.fixture
def make_mta(request):
    """A function that makes further instances; each is stopped, checked and removed at the end."""
    made = []

    def make(**options):
        made.append(harness.Instance(**options))
        return made[-1]

    yield make
    failures = []
    for mta in made:
        try:
            mta.close()
        except AssertionError as e:
            failures.append(str(e))
    failed = failures or getattr(getattr(request.node, "report_call", None), "failed", True)
    for mta in made:
        if failed:
            show(f"{mta.conf}", mta.conf.read_text() if mta.conf.exists() else "")
            show("stderr", mta.stderr())
            show("log", mta.log())
        if not failed or not os.environ.get("POSTERN_KEEP"):
            mta.remove()
    assert not failures, "\n".join(failures)


@pytest.fixture
def mta(make_mta):
    """This test's own Postern, not yet started."""
    return make_mta()


@pytest.fixture
def faulty(make_mta):
    """faulty("scheduler", ...): a Postern, not yet started, whose named processes see mta.faults (tests/system/faults.py)."""
    if harness.SANITIZED:
        pytest.skip("the sanitizers want to be loaded first")
    return lambda *programs: faults.prepare(make_mta(), programs or faults.PROGRAMS)


@pytest.fixture
def small(mta):
    """small(mount options): this test's Postern, not yet started, with its spool on a small file system, mta.disk."""
    if not IS_ROOT:
        pytest.skip("needs root: mounting")
    disk = faults.SmallDisk(mta)
    if not disk.is_ours:
        disk.close()
        pytest.skip("no mount namespace of our own is to be had")

    def start(options):
        disk.mount(options)
        mta.disk, mta.spool = disk, disk.path / "spool"
        return mta

    yield start
    mta.stop()
    disk.close()


@pytest.fixture
def folder(mta):
    """A folder of the test's own, removed with the instance."""
    path = mta.dir / "peers"
    path.mkdir()
    path.chmod(0o755)
    return path


@pytest.fixture
def sink(folder):
    """sink(*options, record=False, ...): starts the fast sink, as often as wanted."""
    made = []

    def start(*options, **more):
        made.append(harness.Sink(folder, *options, **more))
        return made[-1]

    yield start
    for one in made:
        one.stop()


@pytest.fixture
def server():
    """server(script=...): starts a scripted SMTP server (tests/fake/fake_smtp.py)."""
    made = []

    def start(*arguments, **more):
        made.append(fake_smtp.Server(*arguments, **more))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def zone(folder):
    """zone(records): starts a name server with them (tests/fake/fake_dns.py), returns its dns {} section."""
    made = []

    def start(records):
        made.append(fake_dns.FakeDns(records))
        return harness.dns_section(made[-1], folder)

    yield start
    for one in made:
        one.stop()


AGAIN_MOST = 5  # more than these is no bad luck


def to_run_again(broken):
    """The names of the failed tests that may be run once more by themselves, where tests/run-system asks for them."""
    names = sorted({report.nodeid for report in broken})
    if "POSTERN_AGAIN" not in os.environ or len(names) > AGAIN_MOST:
        return []
    names = [name for name in names if not any(r.nodeid == name and "final" in r.keywords for r in broken)]
    Path(os.environ["POSTERN_AGAIN"]).write_text("".join(f"{name}\n" for name in names))
    return names


def pytest_terminal_summary(terminalreporter):
    """PASSED FAILED SKIPPED for tests/run-system."""
    stats = terminalreporter.stats
    again = to_run_again(stats.get("failed", []) + stats.get("error", []))
    count = {name: len([report for report in stats.get(name, []) if report.nodeid not in again])
             for name in ("passed", "failed", "error", "skipped")}
    passed, failed, skipped = count["passed"], count["failed"] + count["error"], count["skipped"]
    if "POSTERN_RESULT" in os.environ:
        Path(os.environ["POSTERN_RESULT"]).write_text(f"{passed} {failed} {skipped}\n")
    for report in stats.get("skipped", []):
        terminalreporter.write_line(f"skipped {report.nodeid}: {report.longrepr[2] if report.longrepr else ''}")
    terminalreporter.write_line(f"system: {passed} passed, {failed} failed, {skipped} skipped")


@pytest.fixture
def peer(folder):
    """peer(peers.Postfix, ...): starts a real program; a missing one is a failure."""
    if not IS_ROOT:
        pytest.skip("needs root: real servers run as users of their own")
    reason = peers.missing()
    if reason:
        pytest.fail(reason)
    made = []

    def start(kind, *arguments, **more):
        made.append(kind(folder, *arguments, **more))
        return made[-1]

    yield start
    for one in reversed(made):
        one.stop()
