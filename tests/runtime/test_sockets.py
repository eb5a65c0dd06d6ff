"""If a node cannot listen, the error is one clear line that names the configuration key."""

from __future__ import annotations

import re
import socket

import msgspec
import pytest

from hosting import GROUP, free_ports, local_config
from stretto.core.config import ClusterConfig, Member, Multicast
from stretto.core.errors import ConfigurationError
from stretto.runtime.addresses import endpoint_of, member_endpoint, text_of
from stretto.runtime.sockets import open_client_sockets, open_member_sockets


def refused(config: ClusterConfig, index: int = 0) -> str:
    with pytest.raises(ConfigurationError) as caught:
        open_member_sockets(config, index).close()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_ports_in_use_are_named() -> None:
    config = local_config(1)
    endpoint = ("127.0.0.1", config.replicas[0].port)
    for kind, name in ((socket.SOCK_DGRAM, "UDP"), (socket.SOCK_STREAM, "TCP")):
        with socket.socket(socket.AF_INET, kind) as taken:
            taken.bind(endpoint)
            if kind == socket.SOCK_STREAM:
                taken.listen()
            assert refused(config).startswith(f"replicas[0].port: {name} port {endpoint[1]} of 127.0.0.1 is in use")
    open_member_sockets(config, 0).close()


def test_a_multicast_port_in_use_is_named() -> None:
    config = local_config(1, multicast=True)
    assert config.multicast is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((GROUP, config.multicast.port))
        assert refused(config).startswith("multicast.port: cannot listen on")


def test_hosts_of_other_machines_are_named() -> None:
    elsewhere = msgspec.structs.replace(local_config(1), replicas=(Member("192.0.2.7", 7_000),))
    assert refused(elsewhere).startswith("replicas[0].host: 192.0.2.7 is not an address of this machine")
    for name in ("no-such-host.invalid", "a..b", "x" * 300):
        nowhere = msgspec.structs.replace(elsewhere, replicas=(Member(name, 7_000),))
        assert re.match(r"replicas\[0\]\.host: .* has no IPv4 address", refused(nowhere))
        with pytest.raises(ConfigurationError, match="has no IPv4 address"):
            open_client_sockets(nowhere)


@pytest.mark.parametrize("index", [-1, 3, 1_000])
def test_an_index_that_does_not_exist_is_refused(index: int) -> None:
    assert refused(local_config(3), index) == f"replicas: there is no replica {index}; the indices are 0 to 2"


def test_an_interface_without_multicast_is_named() -> None:
    port = free_ports(1)[0]
    config = msgspec.structs.replace(local_config(1), multicast=Multicast(GROUP, port, "192.0.2.1"))
    expected = "multicast.interface: 192.0.2.1 carries no multicast"
    assert refused(config).startswith(expected)
    with pytest.raises(ConfigurationError, match=expected):
        open_client_sockets(config)


def test_a_failure_closes_the_sockets_that_were_opened() -> None:
    config = msgspec.structs.replace(local_config(1), multicast=Multicast(GROUP, free_ports(1)[0], "192.0.2.1"))
    refused(config)
    open_member_sockets(msgspec.structs.replace(config, multicast=None), 0).close()


def test_a_client_has_the_address_from_which_it_reaches_replicas() -> None:
    sockets = open_client_sockets(local_config(3, multicast=True))
    host, port = endpoint_of(sockets.endpoint)
    assert (host, port) == sockets.datagrams.getsockname() == sockets.streams.getsockname()
    assert host == "127.0.0.1"
    assert text_of(sockets.endpoint) == f"127.0.0.1:{port}"
    sockets.close()


def test_names_are_resolved() -> None:
    config = msgspec.structs.replace(local_config(1), replicas=(Member("localhost", 7_001),))
    assert endpoint_of(member_endpoint(config, 0)) == ("127.0.0.1", 7_001)
