"""Instructive scenarios, step by step, as text in transcripts/*.txt; `pytest tests/scenarios --rewrite` writes the files."""

from __future__ import annotations

from pathlib import Path

import pytest
from acting import open_sessions, stage_of

from stretto.core.state_machine import NullMachine
from stretto.protocols.adaptive import ADAPTIVE
from stretto.protocols.adaptive.messages import AdaptiveReply, Conflict
from stretto.protocols.speculative.messages import SpeculativeReply
from stretto.replication.messages import DoViewChange, Prepare, Request, StartViewChange, Suspect
from stretto.testing import Stage, Transcript

FOLDER = Path(__file__).parent / "transcripts"


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--rewrite"))


def test_normal_case(rewrite: bool) -> None:
    stage, _ = stage_of(3)
    (client,) = open_sessions(stage, 1)
    transcript = Transcript(stage)
    transcript.note("Speculative Paxos, the normal case. The client multicasts its request; each replica executes it at once and answers.")
    handle = stage.call(client, b"x")
    stage.deliver(Request)
    transcript.note("A superquorum of equal answers, three of three replicas here, completes the call after two message delays.")
    stage.deliver(SpeculativeReply)
    assert stage.results[handle] == b""
    transcript.note("Synchronisation commits what was executed: the leader asks for the hash of each log at one position.")
    stage.fire(0, "sync")
    stage.settle()
    transcript.compare(FOLDER / "speculative-normal-case.txt", rewrite=rewrite)


def test_slow_path(rewrite: bool) -> None:
    stage = Stage(ADAPTIVE, 3, NullMachine)
    one, two = open_sessions(stage, 2)
    transcript = Transcript(stage)
    transcript.note("Adaptive Speculative Paxos. Two clients multicast; the leader r0 receives a first, its followers receive b first.")
    handles = stage.call(one, b"a"), stage.call(two, b"b")
    stage.deliver(Request, to=0)
    for follower in (1, 2):
        for flight in reversed(stage.waiting(Request, to=follower)):
            stage.deliver_one(flight)
    transcript.note("The answers can no longer agree. Both clients report the conflict to the leader.")
    stage.deliver(AdaptiveReply)
    assert not stage.results.keys() & set(handles)
    transcript.note("The leader takes the slow path: it sends its log. The followers undo their order and take over the leader's.")
    stage.deliver(Conflict)
    stage.deliver(Prepare)
    transcript.note("The leader's answer and one follower's matched answer complete each call, in the same view.")
    stage.deliver(AdaptiveReply)
    stage.settle()
    assert all(stage.results[handle] == b"" for handle in handles)
    transcript.compare(FOLDER / "adaptive-slow-path.txt", rewrite=rewrite)


def test_view_change(rewrite: bool) -> None:
    stage, replicas = stage_of(3)
    (client,) = open_sessions(stage, 1)
    handle = stage.call(client, b"x")
    stage.deliver(Request)
    stage.deliver(SpeculativeReply)
    assert stage.results[handle] == b""
    transcript = Transcript(stage)
    transcript.note(
        "Speculative Paxos, a view change. The replicas have executed x and the client has its result, but x is not committed yet."
    )
    transcript.note("The leader r0 crashes. Its followers suspect it after they have received nothing from it for the leader timeout.")
    stage.crash(0)
    while not all(stage.waiting(Suspect, source=follower) for follower in (1, 2)):
        stage.fire(1, "leader")
        stage.fire(2, "leader")
    transcript.note("A majority suspects the leader, so the followers leave view 0 for view 1, which r1 leads.")
    stage.deliver(Suspect)
    transcript.note("Each votes with its log, as soon as it knows that a majority has left the old view.")
    stage.deliver(StartViewChange)
    transcript.note("r1 merges the logs of a majority. x must survive, since a superquorum may have answered it.")
    stage.deliver(DoViewChange)
    transcript.note("When a majority has entered the view, the log with which it started is committed.")
    stage.settle()
    assert replicas[1].state.committed == replicas[2].state.committed == 3
    transcript.compare(FOLDER / "speculative-view-change.txt", rewrite=rewrite)
