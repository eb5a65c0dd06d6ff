"""Opening the sockets of a node. Errors name the configuration key that caused them."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from stretto.core.config import ClusterConfig, Multicast
from stretto.core.errors import ConfigurationError
from stretto.runtime.addresses import endpoint_of, endpoint_to_int, member_endpoint

_BUFFER_BYTES = 4 << 20
_ATTEMPTS = 32
_IP_MULTICAST_ALL = 49  # Linux; the socket module has no name for it


@dataclass
class NodeSockets:
    """The sockets of a node: `datagrams` and `streams` at one endpoint. A replica also receives multicasts, through `group`."""

    datagrams: socket.socket
    streams: socket.socket
    group: socket.socket | None = None

    @property
    def endpoint(self) -> int:
        """The endpoint of the node."""
        return endpoint_to_int(self.datagrams.getsockname())

    def close(self) -> None:
        """Close all sockets."""
        for sock in (self.datagrams, self.streams, self.group):
            if sock is not None:
                sock.close()


def open_member_sockets(config: ClusterConfig, address: int) -> NodeSockets:
    """Open the sockets of the replica or sequencer with this address. Raises ConfigurationError."""
    host, port = endpoint_of(member_endpoint(config, address))
    key = config.name_of(address)
    opened: list[socket.socket] = []
    try:
        datagrams = _datagram_socket(opened)
        streams = _stream_socket(opened)
        _bind_member(datagrams, host, port, key)
        _bind_member(streams, host, port, key)
        streams.listen(128)
        group = None
        if config.multicast is not None:
            _send_multicast_from(datagrams, config.multicast, host)
            group = _join(config.multicast, host, opened) if address < config.n else None
        return NodeSockets(datagrams, streams, group)
    except BaseException:
        for sock in opened:
            sock.close()
        raise


def open_client_sockets(config: ClusterConfig) -> NodeSockets:
    """Open the sockets of a client, at a free port of the local address that reaches replica 0. Raises ConfigurationError."""
    host = _local_host_towards(config)
    for attempt in range(_ATTEMPTS):
        opened: list[socket.socket] = []
        try:
            datagrams = _datagram_socket(opened)
            datagrams.bind((host, 0))
            streams = _stream_socket(opened)
            streams.bind(datagrams.getsockname())
            streams.listen(128)
            if config.multicast is not None:
                _send_multicast_from(datagrams, config.multicast, host)
            return NodeSockets(datagrams, streams)
        except BaseException as error:
            for sock in opened:
                sock.close()
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            if not taken or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _datagram_socket(opened: list[socket.socket]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.append(sock)
    sock.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)  # the kernel limits the size by itself
    return sock


def _stream_socket(opened: list[socket.socket]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.append(sock)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that a restarted replica does not have to wait for old connections
    return sock


def _bind_member(sock: socket.socket, host: str, port: int, key: str) -> None:
    kind = "UDP" if sock.type == socket.SOCK_DGRAM else "TCP"
    try:
        sock.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"{kind} port {port} of {host} is in use; end the process that uses it, or configure another"
            raise ConfigurationError(reason, key=f"{key}.port") from None
        if error.errno == errno.EADDRNOTAVAIL:
            reason = f"{host} is not an address of this machine; start it on the machine that has it"
            raise ConfigurationError(reason, key=f"{key}.host") from None
        if error.errno == errno.EACCES:
            raise ConfigurationError(f"{kind} port {port} needs privileges; configure one above 1023", key=f"{key}.port") from None
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}", key=key) from None


def _send_multicast_from(sock: socket.socket, multicast: Multicast, host: str) -> None:
    interface = multicast.interface or host
    try:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
    except OSError as error:
        raise _no_interface(interface, error) from None
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, multicast.ttl)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, multicast.loopback)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
            probe.connect((multicast.group, multicast.port))
        except OSError as error:
            raise _no_interface(interface, error) from None


def _join(multicast: Multicast, host: str, opened: list[socket.socket]) -> socket.socket:
    sock = _datagram_socket(opened)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # all replicas of one machine receive from the group
    try:
        sock.bind((multicast.group, multicast.port))
    except OSError as error:
        reason = f"cannot listen on {multicast.group}:{multicast.port}: {error.strerror}; configure a free port"
        raise ConfigurationError(reason, key="multicast.port") from None
    interface = multicast.interface or host
    try:
        membership = socket.inet_aton(multicast.group) + socket.inet_aton(interface)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)  # receive from that interface only
    except OSError as error:
        raise _no_interface(interface, error) from None
    return sock


def _no_interface(interface: str, error: OSError) -> ConfigurationError:
    reason = f"{interface} carries no multicast ({error.strerror}); give the address of a local interface that does"
    return ConfigurationError(reason, key="multicast.interface")


def _local_host_towards(config: ClusterConfig) -> str:
    """The local address from which packets to replica 0 are sent."""
    endpoint = endpoint_of(member_endpoint(config, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(endpoint)
        except OSError as error:
            reason = f"there is no route to {endpoint[0]}: {error.strerror}"
            raise ConfigurationError(reason, key="replicas[0].host") from None
        return str(probe.getsockname()[0])
