"""Which server carries a message: routes, exclude-domains, X-Postern-Server; postern route and postern presets."""
import json

import pytest

RETRY = 'retry { after = { "1h" } }\n'
ROUTES = '''
server "one" { host = "192.0.2.1" exclude-domains = { "aol.example, .hot.example" } }
server "two" { method = direct port = 2525 exclude-domains = { "boss@there.example" } }
server "three" { host = "192.0.2.3" }
servers = { "one", "two" }
route "news" { sender = { "news@here.example", ".lists.example" } servers = { "three", "one" } }
route "bounces" { sender = { "<>" } servers = { "three" } }
route "shop" { sender = { "shop.example" } recipient = { "there.example" } servers = { "two" } }
route "all-aol" { recipient = { "aol.example" } servers = { "one" } }
'''.replace('route "bounces" { sender = { "<>" } servers = { "three" } }\n', "")


def letter(i=0, sender="a@here.example", to=("b@there.example",), more=""):
    envelope = f"X-Sender: <{sender}>\n" + "".join(f"X-Receiver: <{rcpt}>\n" for rcpt in to)
    return f"{envelope}From: a@here.example\nTo: {to[0]}\nSubject: {i}\nMessage-ID: <{i}@here.example>\n{more}\nhello\n"


def names(answer):
    used = [server for server in answer["servers"] if "order" in server]
    return [server["name"] for server in sorted(used, key=lambda server: server["order"])]


@pytest.mark.parametrize("sender, rcpt, route, servers", [
    ("a@here.example", "b@there.example", None, ["one", "two"]),
    ("a@here.example", "boss@there.example", None, ["one"]),
    ("a@here.example", "b@sub.hot.example", None, ["two"]),
    ("a@here.example", "b@hot.example", None, ["one", "two"]),
    ("", "b@there.example", None, ["one", "two"]),
    ("<>", "<b@there.example>", None, ["one", "two"]),
    ("news@here.example", "b@there.example", "news", ["three", "one"]),
    ("NEWS@Here.Example", "b@aol.example", "news", ["three"]),
    ("x@sub.lists.example", "b@there.example", "news", ["three", "one"]),
    ("x@lists.example", "b@there.example", None, ["one", "two"]),
    ("x@shop.example", "b@there.example", "shop", ["two"]),
    ("x@shop.example", "b@other.example", None, ["one", "two"]),
    ("x@shop.example", "b@aol.example", "all-aol", []),
])
def test_postern_route(mta, sender, rcpt, route, servers):
    mta.configure(ROUTES)
    done = mta.postern("route", sender, rcpt, "--json")
    answer = json.loads(done.stdout)
    assert answer["route"] == route and names(answer) == servers and done.returncode == (0 if servers else 1)
    words = mta.postern("route", sender, rcpt)
    assert words.returncode == done.returncode
    for order, name in enumerate(servers, 1):
        assert f"{order:2}. {name}: " in words.stdout
    assert ("it would bounce" in words.stdout) == (not servers)


@pytest.mark.parametrize("arguments", [[], ["a@b.example"], ["a@b.example", "c"], ["a", "b@c.example"], ["a@b.c", "d@e.f", "g@h.i"],
                                       ["a@b.example", ""]])
def test_postern_route_usage(mta, arguments):
    mta.configure(ROUTES)
    assert mta.postern("route", *arguments).returncode == 64


def test_presets_are_configuration(mta):
    text = mta.postern("presets", check=True).stdout
    for name in ("gmail", "outlook365", "ses", "sendgrid", "mailgun", "yahoo", "icloud"):
        one = mta.postern("presets", name, check=True).stdout
        assert one in text and f'server "{name}"' in one
        mta.configure(one)
        mta.postern("check", check=True)
    mta.configure(text)
    mta.postern("check", check=True)
    assert mta.postern("presets", "nobody").returncode == 1
    assert mta.postern("presets", "gmail", "yahoo").returncode == 64


def test_mail_goes_where_routes_say(mta, sink):
    """One message, five recipients, three ways; a route of its sender's for another."""
    one, two, three = sink(), sink(), sink()
    mta.start(RETRY + one.relay("one", 'exclude-domains = { "aol.example" }') + two.relay("two") + three.relay("three") +
              'servers = { "one", "two" }\n'
              'route "vip" { recipient = { "boss@there.example", ".vip.example" } servers = { "three" } }\n'
              'route "news" { sender = { "news@here.example" } servers = { "two", "one" } }\n')
    mta.drop(letter(1, to=("a@there.example", "boss@there.example", "c@aol.example", "d@x.vip.example", "e@there.example")))
    mta.drop(letter(2, sender="news@here.example"))
    assert [row["rcpts"] for row in one.wait(1)] == [["a@there.example", "e@there.example"]]
    assert sorted(row["rcpts"] for row in two.wait(2)) == [["b@there.example"], ["c@aol.example"]]
    assert [row["rcpts"] for row in three.wait(1)] == [["boss@there.example", "d@x.vip.example"]]
    mta.wait_empty()


def test_new_routes_reach_old_mail(mta, sink):
    """Mail that waited under the old settings goes by the new ones: all of one delivery to two servers, one bounces."""
    first, other = sink(), sink()
    first.stop()
    mta.start(RETRY + first.relay("first") + other.relay("other") + 'servers = { "first" }\n')
    mta.drop(letter(1, to=("a@there.example", "b@elsewhere.example", "c@nowhere.example", "d@elsewhere.example")))
    mta.wait_log("status=deferred", times=4)
    mta.stop()
    mta.configure('retry { after = { "1h" } }\n' + first.relay("first") +
                  other.relay("other", 'exclude-domains = { "nowhere.example" }') + 'servers = { "first" }\n'
                  'route "r" { recipient = { "elsewhere.example", "nowhere.example" } servers = { "other" } }\n')
    mta.start()
    mta.postern("retry", "--all", check=True)
    assert [row["rcpts"] for row in other.wait(1)] == [["b@elsewhere.example", "d@elsewhere.example"]]
    mta.wait_log(r"to=<c@nowhere.example>.*status=bounced \(no server may carry mail for nowhere.example\)")
    assert "a@there.example" in str(mta.queue()) and "elsewhere" not in str(mta.queue())


def test_the_submitters_choice(mta, sink):
    """X-Postern-Server beats routes, also after a restart."""
    first, other = sink(), sink()
    mta.start('retry { after = { "2s" } }\n' + first.relay("first") + other.relay("other") +
              'servers = { "first" }\nroute "r" { servers = { "first" } }\n')
    mta.drop(letter(1, more="X-Postern-Server: other\n"))
    other.wait(1)
    other.break_it()
    mta.drop(letter(2, more="X-Postern-Server: other\n"))
    mta.wait_log("status=deferred")
    mta.stop()
    other.mend_it()
    mta.start()
    other.wait(2)
    mta.wait_empty()
    assert first.count() == 0


def test_no_server_left_bounces_at_once(mta, sink):
    server = sink()
    mta.start(RETRY + server.relay("one", 'exclude-domains = { "aol.example" }'))
    mta.drop(letter(1, to=("a@aol.example", "b@there.example")))
    line, = mta.wait_log("status=bounced")
    assert "dsn=5.7.1" in line and "(no server may carry mail for aol.example)" in line
    server.wait(2)  # the other recipient, and the report
