"""A transcript says what happened on a stage, and compares it with a file."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from stretto.core.errors import RequestTooLarge
from stretto.core.state_machine import NullMachine
from stretto.protocols.speculative import SPECULATIVE
from stretto.protocols.unreplicated import UNREPLICATED
from stretto.replication.messages import Request
from stretto.testing import Stage, Transcript


def test_steps_stand_at_the_margin_and_effects_below_them() -> None:
    stage = Stage(UNREPLICATED, 1, NullMachine)
    client = stage.client()
    stage.call(client, b"warm up")
    stage.settle()
    transcript = Transcript(stage)
    stage.call(client, b"x" * 40)
    session = f"~{cast(Request, stage.waiting(Request)[0].message).session & 0xFFFF:04x}"
    stage.deliver(Request)
    stage.lose()
    transcript.note("the server ends")
    stage.fire(client.port.address, "tick")  # type: ignore[attr-defined]
    stage.crash(0)
    stage.bootstrap(0)
    stage.settle(lambda flight: False)
    value = repr(b"x" * 32) + " and 8 bytes more"
    assert str(transcript).splitlines() == [
        f"call 2 at c0: {value}",
        f"  c0 -> r0: Request client=c0 session={session} number=2 operation={value}",
        f"deliver c0 -> r0: Request client=c0 session={session} number=2 operation={value}",
        f"  r0 executes {value} -> b''",
        "  r0 commits up to 3",
        f"  r0 -> c0: Reply view=0 session={session} number=2 result=b''",
        f"lose r0 -> c0: Reply view=0 session={session} number=2 result=b''",
        "",
        "# the server ends",
        "fire tick of c0 at 5 ms",
        "crash r0",
        "start r0 for the first time",
        "  r0 bootstrapping incarnation=1",
        "  r0 view entered view=0 leader=0 commit_base=0 last=0",
    ]


def test_a_message_to_several_is_one_line_with_short_hashes_and_numbers() -> None:
    stage = Stage(SPECULATIVE, 3, NullMachine)
    transcript = Transcript(stage, hidden=("entropy", "operation"))
    stage.call(stage.client(), b"x")
    nonce = stage.waiting(Request)[0].message.number  # type: ignore[attr-defined]
    assert f"  c0 -> r0 r1 r2: Request client=c0 session=0 number=~{nonce & 0xFFFF:04x} time_ns=0\n" in str(transcript)
    stage.settle()
    stage.fire(0, "sync")
    stage.settle()
    summary = stage.replicas[0].state.log.hash_at(stage.replicas[0].state.committed).hex()[:4]
    assert f"incarnations=[1, 1, 1] view=0 position=2 hash=#{summary} outcome=#" in str(transcript)


def test_a_failed_call_is_in_the_transcript() -> None:
    stage = Stage(UNREPLICATED, 1, NullMachine)
    transcript = Transcript(stage)
    handle = stage.call(stage.client(), bytes(100_000))
    assert isinstance(stage.results[handle], RequestTooLarge)
    assert str(transcript).splitlines()[1:] == ["  call 1 fails: RequestTooLarge"]


def test_a_file_is_written_and_compared(tmp_path: Path) -> None:
    stage = Stage(UNREPLICATED, 1, NullMachine)
    transcript = Transcript(stage)
    file = tmp_path / "transcripts" / "crash.txt"
    with pytest.raises(AssertionError, match="does not exist"):
        transcript.compare(file)
    stage.crash(0)
    transcript.compare(file, rewrite=True)
    assert file.read_text() == "crash r0\n"
    transcript.compare(file)
    stage.bootstrap(0)
    with pytest.raises(AssertionError, match=r"the transcript is not the file's(.|\n)* crash r0\n\+start r0 for the first time"):
        transcript.compare(file)


def test_a_timer_that_is_not_set_is_refused() -> None:
    stage = Stage(SPECULATIVE, 3, NullMachine)
    with pytest.raises(ValueError, match="r1 has set no timer 'sync'; it has set leader"):
        stage.fire(1, "sync")


def test_a_client_of_another_stage_is_refused() -> None:
    stage, other = Stage(UNREPLICATED, 1, NullMachine), Stage(UNREPLICATED, 1, NullMachine)
    with pytest.raises(ValueError, match="not one of this stage"):
        stage.call(other.client(), b"x")


def test_a_replica_that_stops_itself_while_it_is_started_is_down() -> None:
    stage = Stage(UNREPLICATED, 1, NullMachine)
    transcript = Transcript(stage)
    stage.crash(0)
    stage.restart(0)
    assert 0 not in stage.nodes
    start, stopped = str(transcript).splitlines()[1:]
    assert start == "start r0 without any records"
    assert stopped.startswith("  r0 stopped reason=")
