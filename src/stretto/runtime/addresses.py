"""Endpoints as integers, IPv4 address << 16 | port. A client's address is such an integer, and the batched socket calls take them."""

from __future__ import annotations

import socket
from functools import lru_cache

from stretto.core.config import ClusterConfig
from stretto.core.errors import ConfigurationError

FIRST_ENDPOINT = 1 << 40
LAST_ENDPOINT = (224 << 40) - 1
"""The unicast endpoints, 1.0.0.0:0 to 223.255.255.255:65535. Every client address lies in this range."""


@lru_cache(maxsize=4_096)
def endpoint_to_int(endpoint: tuple[str, int]) -> int:
    """("127.0.0.1", 80) as an integer."""
    host, port = endpoint
    return int.from_bytes(socket.inet_aton(host), "big") << 16 | port


@lru_cache(maxsize=4_096)
def endpoint_of(address: int) -> tuple[str, int]:
    """The integer as (host, port). Raises OverflowError if it is not an endpoint."""
    return socket.inet_ntoa((address >> 16).to_bytes(4, "big")), address & 0xFFFF


def text_of(address: int) -> str:
    """The integer as "host:port"."""
    host, port = endpoint_of(address)
    return f"{host}:{port}"


def member_endpoint(config: ClusterConfig, address: int) -> int:
    """The endpoint of a replica or sequencer. Raises ConfigurationError if its host has no IPv4 address or no member has this address."""
    if not 0 <= address < len(config.members):
        raise ConfigurationError(f"there is no replica {address}; the indices are 0 to {config.n - 1}", key="replicas")
    member = config.members[address]
    try:
        found = socket.getaddrinfo(member.host, member.port, socket.AF_INET, socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        reason = f"{member.host!r} has no IPv4 address ({getattr(error, 'strerror', None) or error}); check the name, or write the address"
        raise ConfigurationError(reason, key=f"{config.name_of(address)}.host") from None
    host, port = found[0][4][:2]
    return endpoint_to_int((str(host), int(port)))
