"""Ways for packets from one host to another: by each switch the port towards each host, on shortest ways up and then down."""

from __future__ import annotations

from stretto.network.routes import Routes, Way, choose


def ports_towards(routes: Routes) -> dict[str, dict[str, int]]:
    """For each switch the port by which packets to a host leave, for all hosts that it has a way to.

    Ways up and then down are the same ways backwards, so those from the host's rack lead there. A switch that can go down does, and
    from then on all do: nothing goes round in circles. Of equal ways, the host's hash says which.
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
                mine[host] = choose(f"unicast|{host}", [Way(way.peer_port, previous[0], way.port) for previous, way in before[place]]).port
    return ports
