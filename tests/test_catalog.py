"""Names of protocols and services, right and wrong."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stretto import catalog
from stretto.apps.kv import KeyValueStore
from stretto.core.config import ClusterConfig, Member
from stretto.core.errors import ConfigurationError
from stretto.core.state_machine import VersionedMachine
from stretto.services.service import ServiceMachine


def test_every_protocol_that_is_named_is_there() -> None:
    assert catalog.protocol_names()
    for name in catalog.protocol_names():
        assert catalog.protocol(name).name == name


def test_a_service_and_a_state_machine_are_wrapped() -> None:
    assert catalog.service_class("stretto.apps.kv:KeyValueStore") is KeyValueStore
    first, second = (catalog.service("stretto.apps.kv:KeyValueStore")() for _ in range(2))
    assert isinstance(first, ServiceMachine)
    assert isinstance(first.service, KeyValueStore)
    assert first.service is not second.service  # type: ignore[attr-defined]
    null = catalog.service("stretto.core.state_machine:NullMachine")()
    assert isinstance(null, VersionedMachine)
    assert (null.signature(1), null.execute(b"x", 1, 2)) == (("state machine NullMachine",), (b"", None))


def test_models() -> None:
    assert catalog.model_names() == ("cas-register", "kv")
    for name, history_format in (("cas-register", "jepsen"), ("cas-register", "edn"), ("kv", "jsonl"), ("kv", "edn")):
        assert catalog.model(name, history_format).name == name
    with pytest.raises(ConfigurationError, match="histories for the model kv are in jsonl or edn, not in jepsen"):
        catalog.model("kv", "jepsen")


def test_the_model_beside_a_service() -> None:
    beside = catalog.model_beside("stretto.apps.kv:KeyValueStore")
    assert beside is not None
    assert beside.name == "kv"
    assert catalog.model_beside("stretto.core.state_machine:NullMachine") is None


def test_a_protocol_that_cannot_use_so_many_replicas() -> None:
    members = tuple(Member("127.0.0.1", 7000 + number) for number in range(3))
    with pytest.raises(ConfigurationError, match="replicas: 3 replicas are listed; the protocol unreplicated has at most 1"):
        catalog.protocol_for(ClusterConfig(members, protocol="unreplicated"))
    assert catalog.protocol_for(ClusterConfig(members[:1], protocol="unreplicated")).name == "unreplicated"


def test_sequencers_are_for_a_protocol_that_has_them() -> None:
    members = tuple(Member("127.0.0.1", 7000 + number) for number in range(3))
    sequencers = (Member("127.0.0.1", 8000),)
    with pytest.raises(ConfigurationError, match="sequencers: none is listed; the protocol nopaxos needs one"):
        catalog.protocol_for(ClusterConfig(members, protocol="nopaxos"))
    with pytest.raises(ConfigurationError, match="sequencers: 1 are listed; the protocol speculative has none"):
        catalog.protocol_for(ClusterConfig(members, protocol="speculative", sequencers=sequencers))
    assert catalog.protocol_for(ClusterConfig(members, protocol="nopaxos", sequencers=sequencers)).name == "nopaxos"


@pytest.mark.parametrize(
    ("source", "name", "reason"),
    [
        ("", "own_service_a:Thing", "has no service 'Thing'; it has none"),
        ("import nosuch_module", "own_service_b:Thing", "No module named 'nosuch_module'"),
        ("1 / 0", "own_service_c:Thing", "ZeroDivisionError: division by zero"),
        ("Thing = 3", "own_service_d:Thing", "has no service 'Thing'"),
        ("class Thing: pass", "own_service_e:Thing", "has no service 'Thing'"),
        ("from stretto import Service\nclass Thing(Service): pass", "own_service_f:Thing", "TypeError: Thing has no method"),
    ],
)
def test_a_service_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, name: str, reason: str) -> None:
    (tmp_path / f"{name.partition(':')[0]}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        catalog.service(name)
    assert caught.value.key == "service"
    assert reason in caught.value.reason


def test_a_configuration_is_checked_before_anything_is_made_of_it() -> None:
    member = (Member("127.0.0.1", 1),)
    catalog.check(ClusterConfig(member))
    for wrong in ({"protocol": "raft"}, {"service": "nosuch:Class"}):
        with pytest.raises(ConfigurationError, match=r"is not a protocol|cannot import"):
            catalog.check(msgspec.structs.replace(ClusterConfig(member), **wrong))
