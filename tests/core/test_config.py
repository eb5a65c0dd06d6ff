"""Configuration files: right ones are read as they are, wrong ones are refused with file, key and reason."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stretto.core.config import ClusterConfig, Limits, Member, Multicast, Timeouts, load_config
from stretto.core.errors import ConfigurationError

GOOD = """
protocol = "speculative"
service = "stretto.apps.kv:KeyValueStore"

[[replicas]]
host = "10.0.0.1"
port = 7000

[[replicas]]
host = "10.0.0.2"
port = 7000

[[replicas]]
host = "ten-three"
port = 7000

[multicast]
group = "239.83.84.1"
port = 7100
interface = "10.0.0.1"

[timeouts]
sync_interval_ms = 2.5

[limits]
max_request_bytes = 1000
"""
MEMBERS = tuple(Member(f"10.0.0.{number}", 7000) for number in (1, 2, 3))
OWN_HOST = '[[sequencers]]\nhost = "10.0.0.1"\nport = 7000\n[multicast]'


def read(tmp_path: Path, text: str | bytes) -> ClusterConfig:
    file = tmp_path / "cluster.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(file)


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD)
    assert config.n == 3
    assert config.replicas[2] == Member("ten-three", 7000)
    assert config.multicast == Multicast("239.83.84.1", 7100, "10.0.0.1")
    assert config.timeouts == Timeouts(sync_interval_ms=2.5)
    assert config.timeouts.ns("sync_interval") == 2_500_000
    assert config.limits == Limits(max_request_bytes=1000)


@pytest.mark.parametrize(
    "config",
    [
        ClusterConfig(MEMBERS),
        ClusterConfig(MEMBERS, protocol="nopaxos", sequencers=(Member("10.0.0.9", 7_000),)),
        ClusterConfig(MEMBERS[:1], protocol="unreplicated", service="a.b:C", limits=Limits(max_sessions=9)),
        ClusterConfig(MEMBERS, multicast=Multicast("239.1.2.3", 9, ttl=3, loopback=False), timeouts=Timeouts(retransmit_ms=0.25)),
    ],
)
def test_what_is_written_is_read_back(tmp_path: Path, config: ClusterConfig) -> None:
    assert read(tmp_path, config.to_toml()) == config


@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        (
            "sync_interval_ms",
            "sync_interval",
            "timeouts.sync_interval",
            "no such key; there are sync_interval_ms, ",
        ),
        ('protocol = "speculative"', "protokoll = 3", "protokoll", "there is no such key; there are protocol"),
        ("ten-three", 'ten-three"\nindex = "2', "replicas[2].index", "there is no such key; there are host, port"),
        ("port = 7100", 'port = "seven"', "multicast.port", "Expected `int`, got `str`"),
        ("[multicast]", "[[multicast]]", "multicast", "Expected `object"),
        ('host = "ten-three"\nport = 7000', 'host = "ten-three"', "replicas[2]", "missing required field `port`"),
        ('host = "ten-three"', 'host = ""', "replicas[2].host", "is empty"),
        ('host = "ten-three"', 'host = "10.0.0.1"', "replicas[2]", "10.0.0.1:7000 is the address of replicas[0] too"),
        ('host = "ten-three"\nport = 7000', 'host = "ten-three"\nport = 70000', "replicas[2].port", "70000 is not a port (1 to 65535)"),
        ('\n[[replicas]]\nhost = "ten-three"\nport = 7000', "", "replicas", "2 replicas are listed; an odd number"),
        ("[multicast]", OWN_HOST, "sequencers[0]", "10.0.0.1:7000 is the address of replicas[0] too"),
        ("[multicast]", '[[sequencers]]\nhost = "s"\nport = 7100\n[multicast]', "multicast.port", "is the port of sequencers[0] too"),
        ("239.83.84.1", "10.0.0.9", "multicast.group", "not an IPv4 multicast address"),
        ("239.83.84.1", "ff02::1", "multicast.group", "not an IPv4 multicast address"),
        ("port = 7100", "port = 0", "multicast.port", "0 is not a port"),
        ("port = 7100", "port = 7000", "multicast.port", "is the port of replicas[0] too"),
        ('interface = "10.0.0.1"', 'interface = "eth0"', "multicast.interface", "'eth0' is not the IPv4 address"),
        ('interface = "10.0.0.1"', "ttl = 256", "multicast.ttl", "256 is outside 0 to 255"),
        ("sync_interval_ms = 2.5", "sync_interval_ms = 0", "timeouts.sync_interval_ms", "not a time in milliseconds"),
        ("sync_interval_ms = 2.5", "sync_interval_ms = nan", "timeouts.sync_interval_ms", "not a time in milliseconds"),
        ("max_request_bytes = 1000", "max_sessions = 0", "limits.max_sessions", "0 is too small"),
        ("max_request_bytes = 1000", "max_datagram_bytes = 100", "limits.max_datagram_bytes", "100 is outside 512 to 65507"),
        ("max_request_bytes = 1000", "max_stream_bytes = 70000\n", None, None),
        ("max_request_bytes = 1000", "max_stream_bytes = 9000\n", "limits.max_stream_bytes", "must be at least"),
        ("stretto.apps.kv:KeyValueStore", "stretto.apps.kv", "service", "is not of the form 'package.module:Class'"),
        ("stretto.apps.kv:KeyValueStore", "a:b c", "service", "is not of the form"),
    ],
)
def test_a_wrong_file_is_refused_with_file_key_and_reason(tmp_path: Path, old: str, new: str, key: str | None, reason: str | None) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if reason is None:
        assert read(tmp_path, text)
        return
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    error = caught.value
    assert error.file == str(tmp_path / "cluster.toml")
    assert error.key == key
    assert reason in error.reason
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"protocol = ", "is not TOML"), (b"\xff\xfe", "is not UTF-8"), (b"", "missing required field")],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        read(tmp_path, content)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere.toml: cannot be read: No such file"):
        load_config(tmp_path / "nowhere.toml")


def test_the_digest_tells_configurations_apart_but_not_machines() -> None:
    config = ClusterConfig(MEMBERS, multicast=Multicast("239.1.2.3", 9, "10.0.0.1"))
    elsewhere = msgspec.structs.replace(config, multicast=Multicast("239.1.2.3", 9, "10.0.0.2"))
    others = [
        msgspec.structs.replace(config, protocol="unreplicated"),
        msgspec.structs.replace(config, service="a:B"),
        msgspec.structs.replace(config, replicas=MEMBERS[::-1]),
        msgspec.structs.replace(config, multicast=None),
        msgspec.structs.replace(config, multicast=Multicast("239.1.2.3", 10, "10.0.0.1")),
        msgspec.structs.replace(config, timeouts=Timeouts(sync_interval_ms=1)),
        msgspec.structs.replace(config, limits=Limits(batch_size=1)),
    ]
    assert msgspec.structs.replace(config, limits=Limits(max_sessions=1)).digest() == config.digest()  # the log says which is used
    assert elsewhere.digest() == config.digest()
    assert len({other.digest() for other in [config, *others]}) == len(others) + 1
    assert len(config.digest()) == 8


def test_data_can_be_used_as_long_as_it_means_the_same() -> None:
    config = ClusterConfig(tuple(Member("127.0.0.1", port) for port in (1, 2, 3)))
    same = {"timeouts": Timeouts(retransmit_ms=7), "limits": Limits(checkpoint_operations=9, max_sessions=5), "durability": "disk"}
    others = {"service": "a:B", "protocol": "other", "replicas": config.replicas[:1]}
    changed = {name: msgspec.structs.replace(config, **{name: value}).data_digest() for name, value in same.items()}
    assert changed == dict.fromkeys(same, config.data_digest())
    digests = {msgspec.structs.replace(config, **{name: value}).data_digest() for name, value in others.items()}
    assert len(digests | {config.data_digest()}) == len(others) + 1
