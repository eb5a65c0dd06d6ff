"""The report on a failure, computed from the messages that were sent and received."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from stretto.core.errors import ConfigurationError
from stretto.network.designs import Design
from stretto.network.groups import Group, place
from stretto.network.model.queues import NEVER
from stretto.network.topologies import named
from stretto.testbed import failover
from stretto.testbed.commands import Change, ControllerClient
from stretto.testbed.exchange import Exchanged, evenly
from stretto.testbed.fabric import Fabric
from stretto.testbed.failover import Trial, interrupt, victim
from stretto.testbed.failover import _Span as Span

MS = 1_000_000_000
"""In picoseconds."""


def test_the_victim_is_on_the_groups_path() -> None:
    topology = named("testbed")
    group = place(topology, 3, 3, 1)
    root = victim(topology, group, Design("serialised"), "root")
    assert root in topology.roots
    link = victim(topology, group, Design("serialised"), "link")
    assert link.startswith(f"{root}:")
    with pytest.raises(ConfigurationError, match="plain"):
        victim(topology, group, Design("plain"), "root")


@pytest.mark.parametrize(("wrong", "key"), [({"what": "host"}, "what"), ({"rate": 0}, "rate")])
def test_invalid_trials_are_refused(wrong: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigurationError, match=key):
        msgspec.structs.replace(Trial(), **wrong).validate()


def test_gaps_losses_and_reordering_of_one_event() -> None:
    group = Group("239.83.0.1", ("a", "b"), ("s", "t"))
    messages = evenly(group, 100, 1_000)  # a message each millisecond, by s and t in turn
    sent = messages.time_ps
    a, b = sent + MS // 2, sent + MS // 2
    a[40:50] = NEVER
    b[40:50] = NEVER
    a[51] = NEVER
    b[[54, 55]] = b[[55, 54]]  # before the switches confirmed
    b[[70, 71]] = b[[71, 70]]
    change = Change(7, ("root0 failed",), 42_000_000, 50_000_000, 60_000_000, 5, {group.address: (("root0",), ("root1",))}, ())
    again = Change(8, ("root0:1 failed",), 65_000_000, 66_000_000, 67_000_000, 0, {}, ())  # seen by another port, and nothing to do
    exchanged = Exchanged(sent, {"a": a, "b": b}, (0.0, 0.0), Counter())
    killed, revived = Span("killed", 40_000_000, 43_000_000, 90_000_000), Span("revived", 90_000_000, 91_000_000, 99_000_000)
    found = failover._interruption(killed, "root0", group, messages, exchanged, 0, [change, again])
    assert (found.command_ms, found.noticed_ms, found.computed_ms, found.confirmed_ms) == (3, 2, 10, 20)
    assert found.roots == ("root1",)
    # Of each sender every second message: the last before at 38 or 39 ms, the first after at 50, 51 or 53.
    assert [(receiver.gap_ms, receiver.lost) for receiver in found.receivers] == [(14, 11), (12, 10)]
    assert found.overtaken == pytest.approx(1 / 9)
    assert found.overtaken_after == pytest.approx(1 / 30)
    quiet = failover._interruption(revived, "root0", group, messages, exchanged, 0, [change, again])
    assert (quiet.noticed_ms, quiet.roots, [receiver.lost for receiver in quiet.receivers]) == (None, (), [0, 0])


@pytest.mark.xdist_group("testbed")
@pytest.mark.parametrize("what", ["root", "link"])
def test_a_group_gets_its_messages_over_another_root(testbed: Fabric, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "BEFORE_S", 0.3)
    monkeypatch.setattr(failover, "SPAN_S", 3.0)
    controller = ControllerClient(testbed.plan.controller_socket)
    killed, revived = interrupt(testbed, controller, Trial(what, senders=2, receivers=2, rate=500, seed=2))
    assert killed.element.startswith(revived.roots[0])
    assert killed.roots != revived.roots
    for event in (killed, revived):
        assert event.noticed_ms is not None
        assert event.confirmed_ms is not None
        assert event.noticed_ms < event.confirmed_ms < 3_000
        assert event.overtaken_after == 0
        # It ended before the next event: messages came again.
        assert all(receiver.gap_ms < 2_900 for receiver in event.receivers)
    assert any(receiver.lost for receiver in killed.receivers)
    assert testbed.status().healthy
