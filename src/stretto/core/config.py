"""The configuration of a cluster: a TOML file that all replicas and clients read, or an equal object.

    protocol = "adaptive"
    service = "stretto.apps.kv:KeyValueStore"

    [[replicas]]
    host = "10.0.0.1"
    port = 7000
    ...

    [[sequencers]]          # only for a protocol that has sequencers
    host = "10.0.0.9"
    port = 7000

    [multicast]             # without this table, clients send requests to each replica
    group = "239.83.84.1"
    port = 7100
    interface = "10.0.0.1"

Every datagram carries the `digest` of its sender's configuration, and nodes refuse datagrams with another digest. The digest leaves out the
interface that carries the multicast, since it may differ from machine to machine.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from stretto.core.errors import ConfigurationError
from stretto.core.framing import CLUSTER_BYTES, HEADER_BYTES

DEFAULT_PROTOCOL = "adaptive"
"""The protocol of a configuration that names none."""

FILE_NAME = "cluster.toml"
"""The name of a configuration file where none is given."""

Durability: TypeAlias = Literal["memory", "disk"]

LARGEST_DATAGRAM = 65_507
"""The largest payload of UDP over IPv4, in bytes."""


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A replica or sequencer: where it listens for both UDP and TCP. `host` is an IPv4 address or a name that resolves to one."""

    host: str
    port: int


class Multicast(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The IP multicast group of the replicas.

    - `interface`: the address of the local interface for the group; "" means the interface that has the node's own address;
    - `ttl`: the largest number of routers between sender and receivers, plus one;
    - `loopback`: whether replicas on the sender's own machine receive its multicasts.
    """

    group: str
    port: int
    interface: str = ""
    ttl: int = 1
    loopback: bool = True


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All times, in milliseconds (fractions allowed).

    - `sync_interval_ms`: the longest time between two synchronisations of the leader, which also serve as heartbeats.
    - `sync_patience_ms`: how long a follower whose log is shorter than a Sync waits for the missing messages before it reports the gap.
    - `sync_timeout_ms`: how long the leader waits for a superquorum before it reconciles with a majority.
    - `conflict_interval_ms`: the shortest time between synchronisations that clients ask for.
    - `leader_timeout_ms`: after this silence a follower suspects its leader, and a leader suspects itself.
    - `max_operation_ms`: how long a replica may be busy with one operation, or wait for its disk, before it counts as silent.
    - `view_change_timeout_ms`: how long a view may take to start before the replicas try the next; doubles with each attempt.
    - `retransmit_ms`: how long a replica waits for another replica's answer before it asks again.
    - `client_retransmit_ms`: how long a client waits for answers before it sends the request again; backs off, with jitter.
    - `max_clock_skew_ms`: how far the clocks of replicas may differ. A client's request is dropped if it is stamped more than twice as far
      ahead of the median of the replicas' clocks.
    - `request_timeout_ms`: how long a call waits for a quorum before it ends with `RequestTimeout` or `ClusterUnavailable`.
    """

    sync_interval_ms: float = 10
    sync_patience_ms: float = 5
    sync_timeout_ms: float = 20
    conflict_interval_ms: float = 1
    leader_timeout_ms: float = 60
    max_operation_ms: float = 10_000
    view_change_timeout_ms: float = 50
    retransmit_ms: float = 10
    client_retransmit_ms: float = 20
    request_timeout_ms: float = 5_000
    max_clock_skew_ms: float = 1_000

    def ns(self, name: str) -> int:
        """Return a timeout in nanoseconds, by its name without `_ms`: `ns("sync_interval")`."""
        milliseconds: float = getattr(self, name + "_ms")
        return round(milliseconds * 1_000_000)


LONGEST_MS = 86_400_000
"""No time in a configuration is longer than this: a day."""


def timeout_in_ns(milliseconds: float) -> int:
    """A time-out in nanoseconds. Raises ConfigurationError unless it is more than 0 and less than a day."""
    if not 0 < milliseconds < LONGEST_MS:
        raise ConfigurationError(f"{milliseconds} is not a time in milliseconds (more than 0, less than a day)", key="request_timeout_ms")
    return round(milliseconds * 1_000_000)


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All sizes and counts.

    - `max_datagram_bytes`: the largest datagram, header included; larger messages go over a stream. The default fits an Ethernet frame.
    - `max_request_bytes`: the largest encoded operation that a client sends.
    - `max_sessions`: how many sessions the replicas keep. Beyond it they drop a sixteenth of them, the least recently used.
    - `max_pending_requests`: how many requests a replica keeps while it cannot append them.
    - `checkpoint_operations`: the smallest number of operations between two checkpoints of a replica. Each compacts the log before it.
    - `sync_operations`: after this number of operations the leader synchronises, even if the interval has not passed.
    - `batch_size`: the largest number of operations in one Prepare of `multipaxos-batched` or `adaptive`.
    - `pipeline`: the largest number of Prepares in flight.
    - `max_transfer_bytes`: the largest chunk of log in one message of a state transfer.
    - `max_stream_bytes`: the largest message that a stream may carry.
    """

    max_datagram_bytes: int = 1_472
    max_request_bytes: int = 65_536
    max_sessions: int = 65_536
    max_pending_requests: int = 65_536
    sync_operations: int = 2_000
    checkpoint_operations: int = 20_000
    batch_size: int = 64
    pipeline: int = 2
    max_transfer_bytes: int = 1_048_576
    max_stream_bytes: int = 268_435_456


class ClusterConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that the nodes of one cluster must agree on.

    `service` names the replicated class as `module:Class`. `replicas` and `sequencers` are in the order of their indices; the addresses of
    the sequencers follow those of the replicas. The constructor checks nothing; `load_config` and `validate` do.

    `durability`: with "memory", a replica that ends has lost its state and recovers from its peers (the model of the paper). With "disk", a
    replica sends a message only after everything the message depends on is on disk, so operations survive the end of all replicas at once.
    """

    replicas: tuple[Member, ...]
    protocol: str = DEFAULT_PROTOCOL
    service: str = "stretto.apps.kv:KeyValueStore"
    durability: Durability = "memory"
    sequencers: tuple[Member, ...] = ()
    multicast: Multicast | None = None
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()

    @property
    def n(self) -> int:
        """The number of replicas."""
        return len(self.replicas)

    @property
    def members(self) -> tuple[Member, ...]:
        """All replicas, then all sequencers. The address of a member is its position in this tuple."""
        return (*self.replicas, *self.sequencers)

    def name_of(self, address: int) -> str:
        """The name that the file has for the member with this address."""
        return f"replicas[{address}]" if address < self.n else f"sequencers[{address - self.n}]"

    def digest(self) -> bytes:
        """Eight bytes that are equal only for configurations whose nodes may communicate."""
        multicast = self.multicast and msgspec.structs.replace(self.multicast, interface="")
        limits = msgspec.structs.replace(self.limits, max_sessions=1)  # the log says which is used; see `stretto.replication.versions`
        shared = msgspec.structs.replace(self, multicast=multicast, limits=limits)
        return hashlib.blake2b(msgspec.json.encode(shared), digest_size=CLUSTER_BYTES).digest()

    def data_digest(self) -> bytes:
        """Eight bytes that stay equal as long as replicas can use what they have on disk.

        Other replicas, another protocol or another service change it. Timeouts and limits do not.
        """
        used = [self.protocol, self.service, self.replicas]
        return hashlib.blake2b(msgspec.json.encode(used), digest_size=CLUSTER_BYTES).digest()

    def validate(self) -> ClusterConfig:
        """Check this configuration and return it. Raises ConfigurationError with the key and what would be right."""
        _check_members(self)
        if self.multicast is not None:
            _check_multicast(self)
        for name in self.timeouts.__struct_fields__:
            value = getattr(self.timeouts, name)
            if not 0 < value < LONGEST_MS:
                raise ConfigurationError(f"{value} is not a time in milliseconds (more than 0, less than a day)", key=f"timeouts.{name}")
        for name in self.limits.__struct_fields__:
            value = getattr(self.limits, name)
            if value < 1:
                raise ConfigurationError(f"{value} is too small; 1 or more", key=f"limits.{name}")
        datagram = self.limits.max_datagram_bytes
        if not 512 <= datagram <= LARGEST_DATAGRAM:
            raise ConfigurationError(f"{datagram} is outside 512 to {LARGEST_DATAGRAM}", key="limits.max_datagram_bytes")
        least = self.limits.max_request_bytes + HEADER_BYTES + 128
        if self.limits.max_stream_bytes < least:
            raise ConfigurationError(f"must be at least {least}, to carry a request of max_request_bytes", key="limits.max_stream_bytes")
        module, colon, name = self.service.partition(":")
        if not (colon and module and name.isidentifier()):
            raise ConfigurationError(f"{self.service!r} is not of the form 'package.module:Class'", key="service")
        return self

    def to_toml(self) -> str:
        """The text of a file that `load_config` reads as this configuration. Most keys that have their default are left out."""
        lines = [f"protocol = {_toml(self.protocol)}", f"service = {_toml(self.service)}", f"durability = {_toml(self.durability)}"]
        for kind, members in (("replicas", self.replicas), ("sequencers", self.sequencers)):
            for member in members:
                lines += ["", f"[[{kind}]]", f"host = {_toml(member.host)}", f"port = {member.port}"]
        tables: list[tuple[str, msgspec.Struct | None, msgspec.Struct | None]] = [
            ("multicast", self.multicast, None),
            ("timeouts", self.timeouts, Timeouts()),
            ("limits", self.limits, Limits()),
        ]
        for name, table, default in tables:
            fields = () if table is None else table.__struct_fields__
            changed = [key for key in fields if getattr(table, key) != getattr(default, key, None)]
            if changed:
                lines += ["", f"[{name}]", *(f"{key} = {_toml(getattr(table, key))}" for key in changed)]
        return "\n".join(lines) + "\n"


def load_config(file: str | Path) -> ClusterConfig:
    """Read and check a configuration file. Raises ConfigurationError with the file, the key and the reason."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=file) from None
    except UnicodeDecodeError:
        raise ConfigurationError("is not UTF-8 text", file=file) from None
    try:
        return parse(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"is not TOML: {error}", file=file) from None
    except ConfigurationError as error:
        raise error.in_file(file) from None


def parse(table: dict[str, Any]) -> ClusterConfig:
    """Convert plain data to a checked configuration. Raises ConfigurationError with the key and the reason."""
    try:
        config = msgspec.convert(table, ClusterConfig)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$")
        key = where.rstrip("`").lstrip(".")
        if (unknown := _UNKNOWN.fullmatch(reason)) is not None:
            known = _TABLES[key.partition("[")[0]].__struct_fields__
            near = get_close_matches(unknown[1], known, n=3, cutoff=0.3) or known[:3]
            others = " and others" if len(near) < len(known) else ""
            key = f"{key}.{unknown[1]}" if key else unknown[1]
            reason = f"there is no such key; there are {', '.join(near)}{others}"
        raise ConfigurationError(reason, key=key or None) from None
    return config.validate()


_UNKNOWN = re.compile("Object contains unknown field `(.*)`")
_TABLES = {"": ClusterConfig, "replicas": Member, "sequencers": Member, "multicast": Multicast, "timeouts": Timeouts, "limits": Limits}
"""What a table of the file holds, by its key."""


def _check_members(config: ClusterConfig) -> None:
    if config.n % 2 == 0:
        raise ConfigurationError(f"{config.n} replicas are listed; an odd number (2f+1 to survive f failures) is needed", key="replicas")
    seen: dict[tuple[str, int], int] = {}
    for address, member in enumerate(config.members):
        key = config.name_of(address)
        if not member.host:
            raise ConfigurationError("is empty; an IPv4 address or a host name is needed", key=f"{key}.host")
        if not 1 <= member.port <= 65_535:
            raise ConfigurationError(f"{member.port} is not a port (1 to 65535)", key=f"{key}.port")
        if (other := seen.setdefault((member.host, member.port), address)) != address:
            raise ConfigurationError(f"{member.host}:{member.port} is the address of {config.name_of(other)} too", key=key)


def _check_multicast(config: ClusterConfig) -> None:
    multicast = config.multicast
    assert multicast is not None
    if not is_ipv4(multicast.group) or not ipaddress.IPv4Address(multicast.group).is_multicast:
        reason = f"{multicast.group!r} is not an IPv4 multicast address (224.0.0.0 to 239.255.255.255)"
        raise ConfigurationError(reason, key="multicast.group")
    if not 1 <= multicast.port <= 65_535:
        raise ConfigurationError(f"{multicast.port} is not a port (1 to 65535)", key="multicast.port")
    for address, member in enumerate(config.members):
        if member.port == multicast.port:
            reason = f"{multicast.port} is the port of {config.name_of(address)} too; the group needs a port of its own"
            raise ConfigurationError(reason, key="multicast.port")
    if multicast.interface and not is_ipv4(multicast.interface):
        raise ConfigurationError(f"{multicast.interface!r} is not the IPv4 address of a local interface", key="multicast.interface")
    if not 0 <= multicast.ttl <= 255:
        raise ConfigurationError(f"{multicast.ttl} is outside 0 to 255", key="multicast.ttl")


def is_ipv4(text: str) -> bool:
    """Whether this is an IPv4 address."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _toml(value: str | float | bool) -> str:
    return msgspec.json.encode(value).decode()
