"""Paths for unicast packets: for each switch the port towards each host, on shortest paths that lead up and then down."""

from __future__ import annotations

from stretto.network.routes import Hop, Routes, choose


def ports_towards(routes: Routes) -> dict[str, dict[str, int]]:
    """For each switch the port towards each host that it can reach.

    A path up and then down is such a path in reverse too, so the paths from the host's rack, reversed, lead to the host. A switch that can
    send down does so, and so does every switch after it, which excludes loops. The host's hash chooses between equal paths.
    """
    ports: dict[str, dict[str, int]] = {switch.name: {} for switch in routes.topology.switches}
    for host in routes.topology.hosts:
        rack = routes.rack(host)
        if rack is None:
            continue
        ports[rack[0]][host] = rack[1]
        before = routes.shortest(rack[0])
        for switch, mine in ports.items():
            place = next((place for place in ((switch, False), (switch, True)) if before.get(place)), None)
            if switch != rack[0] and place is not None:
                mine[host] = choose(f"unicast|{host}", [Hop(hop.peer_port, previous[0], hop.port) for previous, hop in before[place]]).port
    return ports
