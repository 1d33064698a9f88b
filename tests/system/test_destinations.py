"""destination { }: connections and messages for one recipient domain, or for domains grouped by MX host."""
import threading

import peers
from fake_smtp import Server

DIRECT = 'server "direct" { method = direct port = 2525 deny-addresses = {} max-connections-per-destination = 8 }\n'


def counting(peak):
    lock = threading.Lock()

    def script(s):
        with lock:
            peak["open"] += 1
            peak["most"] = max(peak["most"], peak["open"])
        try:
            s.say("220 fake.example ESMTP")
            s.serve(dot=lambda _: s.pause(0.05))
        finally:
            with lock:
                peak["open"] -= 1
    return script


def test_connections_and_messages_of_a_destination(mta, peer):
    """`small` has a block of its own, `group` is two sites found by their MX hosts, `other` is as the server says."""
    peaks = {name: {"open": 0, "most": 0} for name in ("small", "group", "other")}
    servers = {name: Server(counting(peak)) for name, peak in peaks.items()}
    nsd = peer(peers.Nsd, [line for name, server in servers.items()
                           for line in (f"mx.{name} A {server.address}", f"{name} MX 10 mx.{name}")] +
               [f"mx2.group A {servers['group'].address}", "group-too MX 10 mx2.group"])
    try:
        mta.start(nsd.conf() + DIRECT + 'destination "small.example" { max-connections = 2 reconnect-every = 5 }\n'
                  'destination "a group" { mx = { "*.group.example" } max-connections = 2 }\n')
        for i in range(40):
            for name in (*servers, "group-too"):
                mta.drop(f"From: a@here.example\nTo: b@{name}.example\nMessage-ID: <{i}@{name}>\n\nx\n")
        for name, server in servers.items():
            server.wait(80 if name == "group" else 40, timeout=15)
        mta.wait_empty()
    finally:
        for server in servers.values():
            server.close()
    assert peaks["small"]["most"] <= 2 and peaks["group"]["most"] == 2 and peaks["other"]["most"] > 2, peaks
    assert all(len(session.messages) <= 5 for session in servers["small"].sessions)
