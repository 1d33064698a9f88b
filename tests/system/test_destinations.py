"""destination { }: connections and messages for one recipient domain, or for domains grouped by MX host."""
import peers

DIRECT = 'server "direct" { method = direct port = 2525 deny-addresses = {} max-connections-per-destination = 8 }\n'


def test_connections_and_messages_of_a_destination(mta, peer, sink):
    """`small` has a block of its own, `group` is two sites found by their MX hosts, `other` is as the server says."""
    sinks = {name: sink("-c", "-d", "50") for name in ("small", "group", "other")}
    nsd = peer(peers.Nsd, [line for name, one in sinks.items() for line in (f"mx.{name} A {one.address}", f"{name} MX 10 mx.{name}")] +
               [f"mx2.group A {sinks['group'].address}", "group-too MX 10 mx2.group"])
    mta.start(nsd.conf() + DIRECT + 'destination "small.example" { max-connections = 2 reconnect-every = 5 }\n'
              'destination "a group" { mx = { "*.group.example" } max-connections = 2 }\n')
    for i in range(40):
        for name in (*sinks, "group-too"):
            mta.drop(f"From: a@here.example\nTo: b@{name}.example\nMessage-ID: <{i}@{name}>\n\nx\n")
    for name, one in sinks.items():
        one.wait(80 if name == "group" else 40)
    mta.wait_empty()
    most = {name: one.most_open() for name, one in sinks.items()}
    assert most["small"] == most["group"] == 2 < most["other"] <= 8, most
    assert max(int(row["transaction"]) for row in sinks["small"].ledger()) == 5
