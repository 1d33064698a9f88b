"""A spool that was copied, or brought back from a backup, sends nothing by itself (CR25)."""
import shutil
import subprocess

from harness import wait_until
from test_deliver import letter
from test_failover import relay
from test_retry import refuse


def queue_names(mta):
    return [m["queue_name"] for m in mta.queue()]


def test_cr25_mail_of_a_copy_is_held(mta, server):
    srv = server(refuse(count=3))
    mta.start('retry { after = { "1h" } }\n' + relay("out", srv))
    for i in range(3):
        mta.drop(letter(ident=str(i)))
    mta.wait_log("status=deferred", times=3)
    mta.restart()                               # stopped and started it is what it was
    assert "hold" not in queue_names(mta)
    mta.stop()
    incoming = letter(ident="3")
    subprocess.run(["cp", "-a", mta.spool, mta.dir / "backup"], check=True)
    mta.start()
    mta.postern("retry", "--all", check=True)
    srv.wait(3)
    mta.wait_empty()
    mta.stop()
    shutil.rmtree(mta.spool)
    (mta.dir / "backup").rename(mta.spool)
    mta.start()
    mta.wait_log("this spool is a copy, or was brought back from a backup: .* 3 deliveries are held")
    assert queue_names(mta) == ["hold"] * 3
    mta.drop(incoming)                          # what comes now is new
    srv.wait(4)
    mta.kill("scheduler")                       # and held they stay
    wait_until(lambda: mta.pids("scheduler") and mta.postern("queue").returncode == 0)
    assert queue_names(mta) == ["hold"] * 3 and len(mta.grep("this spool is a copy")) == 1
    mta.restart()
    mta.postern("release", "--all", check=True)
    srv.wait(7)
    mta.wait_empty()


def test_queue_rebuild_makes_the_database_anew(mta, server):
    """Also of what was held; and never under a service that runs."""
    srv = server(refuse(count=2))
    mta.start('retry { after = { "1h" } }\n' + relay("out", srv))
    for i in range(2):
        mta.drop(letter(ident=str(i)))
    mta.wait_log("status=deferred", times=2)
    mta.postern("hold", mta.queue()[0]["queue_id"], check=True)
    done = mta.postern("queue", "rebuild")
    assert (done.returncode, done.stderr) == (75, "postern: queue rebuild: the service runs: stop it first\n")
    assert mta.postern("queue", "rebuild", "now").returncode == 64
    mta.stop()
    done = mta.postern("queue", "rebuild", check=True)
    assert "makes it anew from the queue files (2)" in done.stdout
    assert [p.name for p in (mta.spool / "db/queue").glob("damaged-*/records.db")] == ["records.db"]
    mta.start()
    srv.wait(2)
    mta.wait_empty()
    assert len(mta.grep("found without a record, queued again: possibly repeated")) == 2
