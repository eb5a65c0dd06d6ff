"""Messages that no replica sends: they change nothing, and nothing raises."""

from __future__ import annotations

from typing import cast

import pytest
from acting import MS, open_sessions

from stretto.core.state_machine import NullMachine
from stretto.protocols.multipaxos import MULTIPAXOS
from stretto.protocols.multipaxos.replica import MultiPaxosReplica
from stretto.replication.group import Status
from stretto.replication.messages import Bootstrap, BootstrapReply, CompareOutcomes, GetIncarnations, IncarnationsReply, Outcomes
from stretto.testing.stage import Stage

WRONG = [((), None), (None, ()), ((0,), (0,)), ((0,) * 4, None), (None, (0,) * 4)]
"""First incarnations and incarnations of too few or too many replicas; None: as many as there are."""


def begin() -> tuple[Stage, MultiPaxosReplica]:
    stage = Stage(MULTIPAXOS, 3, NullMachine)
    open_sessions(stage, 1)
    stage.crash(1)
    stage.lose()
    return stage, cast(MultiPaxosReplica, stage.replicas[0])


@pytest.mark.parametrize(("first", "incarnations"), WRONG)
def test_replies_about_another_number_of_replicas(first: tuple[int, ...] | None, incarnations: tuple[int, ...] | None) -> None:
    stage, _ = begin()
    named = ((0,) * 3 if first is None else first, (0,) * 3 if incarnations is None else incarnations)
    new = cast(MultiPaxosReplica, stage.bootstrap(1))
    question = cast(Bootstrap, stage.waiting(Bootstrap, source=1, to=0)[0].message)
    new.on_message(0, BootstrapReply(question.nonce, *named))
    assert new.group.ignored["answer to an earlier question"] == 1
    stage.crash(1)
    lost = cast(MultiPaxosReplica, stage.restart(1))
    asked = cast(GetIncarnations, stage.waiting(GetIncarnations, source=1, to=0)[0].message)
    for source in (0, 2):
        lost.on_message(source, IncarnationsReply(asked.nonce, *named, True))
    assert lost.group.ignored["answer to an earlier question"] == 2
    assert lost.group.status is Status.LOST_STATE


def test_outcomes_that_nobody_has_asked_for() -> None:
    stage, replica = begin()
    log, known = replica.state.log, replica.group.incarnations
    replica.on_message(2, Outcomes(known, (0, log.last), log.last_hash, (0, 0), 2, None))
    assert replica.outcomes.answers == {}
    replica.on_message(2, CompareOutcomes(known, (0, log.last), log.last_hash))
    assert replica.outcomes.question is not None
    for positions, values in (((0, log.last), (0,)), ((0,), (0,)), ((0, log.last), ())):
        replica.on_message(2, Outcomes(known, positions, log.last_hash, values, 2, None))
    assert sorted(replica.outcomes.answers) == [0]
    assert replica.group.ignored["outcomes that are not compared now"] == 4
    stage.run(100 * MS)
