"""Sequences of steps: shortened, saved, replayed, and described."""

from __future__ import annotations

import re

import msgspec
import pytest
from toy import RepliesAtOnce, toy

from stretto.core.errors import ConfigurationError, StrettoError
from stretto.exploration.bounds import Bounds
from stretto.exploration.guided import GuidedSearch
from stretto.exploration.nodes import CALL, TIMER
from stretto.exploration.schedule import (
    Schedule,
    Step,
    confirmed,
    described_message,
    described_steps,
    play,
    shortened,
    steps_in,
    steps_of,
    to_schedule,
)
from stretto.exploration.search import Found, Search
from stretto.exploration.world import World
from stretto.protocols.speculative.messages import Sync
from stretto.verify.violation import Violation

BOUNDS = Bounds(timers=6)


def found(world: World) -> list[Step]:
    """The shortened steps to a violation of `RepliesAtOnce`."""
    search = GuidedSearch(toy(RepliesAtOnce), BOUNDS, durable=False, seed=0)
    for _ in search.run():
        assert search.walks < 1_000
    assert search.found is not None
    _, played = confirmed(toy(RepliesAtOnce), search.world, search.found)
    assert len(played.steps) <= len(search.found.steps)
    return played.steps


def test_walks_begin_at_the_end_of_a_schedule() -> None:
    """From there the last step alone is a violation, so the first walks find it."""
    definition = toy(RepliesAtOnce)
    steps = found(World(definition, BOUNDS, reduce=False))
    search = GuidedSearch(definition, BOUNDS, durable=False, seed=0, beginning=steps[:-1])
    for _ in search.run():
        assert search.walks < 1_000
    assert search.found is not None
    assert steps_of(search.world, search.found.steps)[: len(steps) - 1] == steps[:-1]
    from_the_start = GuidedSearch(definition, BOUNDS, durable=False, seed=0)
    for _ in from_the_start.run():
        pass
    assert search.walks <= from_the_start.walks
    for wrong, text in (([Step(0, (TIMER, "no such timer"))], "none of its steps is possible"), (steps, "is a violation already")):
        with pytest.raises(ConfigurationError, match=text):
            GuidedSearch(definition, BOUNDS, durable=False, seed=0, beginning=wrong)


def test_no_step_of_a_shortened_schedule_can_go() -> None:
    world = World(toy(RepliesAtOnce), BOUNDS, reduce=False)
    steps = found(world)
    for left_out in range(len(steps)):
        assert play(world, steps[:left_out] + steps[left_out + 1 :]).violation is None


def test_shortening_drops_what_has_nothing_to_do_with_it() -> None:
    world = World(toy(RepliesAtOnce), BOUNDS, reduce=False)
    steps = found(world)
    first, *rest = steps
    longer = [Step(0, (TIMER, "tell")), first, Step(0, (TIMER, "tell")), Step(4, CALL), *rest]
    played = play(world, longer)
    if played.violation is not None:  # what is in between may prevent it
        assert len(shortened(world, longer, played.violation.kind)) <= len(steps)


def test_a_kept_schedule_is_done_again() -> None:
    definition = toy(RepliesAtOnce)
    world = World(definition, BOUNDS, remember=False, reduce=False)
    steps = found(world)
    played = play(world, steps)
    assert played.violation is not None
    kept = msgspec.json.encode(to_schedule(world, definition, steps, played.violation))
    read = msgspec.json.decode(kept, type=Schedule)
    assert read.bounds == BOUNDS
    again = World(definition, read.bounds, read.durable, remember=False, reduce=False)
    assert steps_in(read, definition, again) == steps
    outcome = play(again, steps_in(read, definition, again)).violation
    assert outcome is not None
    assert read.violation is not None
    assert (outcome.kind, outcome.description) == (read.violation.kind, read.violation.description)


def test_a_schedule_of_another_protocol_is_refused() -> None:
    definition = toy(RepliesAtOnce)
    world = World(definition, BOUNDS, reduce=False)
    steps = found(world)
    violation = play(world, steps).violation
    assert violation is not None
    text = msgspec.json.encode(to_schedule(world, definition, steps, violation)).replace(b'"Request"', b'"Enquiry"')
    with pytest.raises(ConfigurationError, match=r"steps\[\d+\]: is no step of toy: 'Enquiry'"):
        steps_in(msgspec.json.decode(text, type=Schedule), definition, world)


def test_a_person_can_follow() -> None:
    search = Search(World(toy(RepliesAtOnce), Bounds()))
    for _ in search.run():
        pass
    assert search.found is not None
    world, played = confirmed(toy(RepliesAtOnce), search.world, search.found)
    story = "\n".join(described_steps(world, played))
    for place, session in enumerate(dict.fromkeys(re.findall("session=(~[0-9a-f]{4})", story))):
        story = story.replace(session, "st"[place])  # they are named by hashes
    assert story.splitlines() == STORY.strip("\n").splitlines()


STORY = """
  1. c0 calls a
  2. r0 receives Request(client=c0, session=s, number=2, operation=a) from c0
       r0: view 0, in service, committed to 4, log [0 1 | a]
  3. timer 'tell' of r0 fires
       r0: view 0, in service, committed to 4, log [0 1 | ]
  4. c0 receives Reply(session=s, number=2, result=[0 1 a]) from r0
       the call of a returns [0 1 a]
  5. c1 calls b
  6. r0 receives Request(client=c1, session=t, number=2, operation=b) from c1
       r0: view 0, in service, committed to 4, log [0 1 | b]
  7. c1 receives Reply(session=t, number=2, result=[0 1 b]) from r0
     not linearizable: one call returned [0 1 a], another [0 1 b]
The replicas before the last step (committed | speculative):
  r0: view 0, in service, committed to 4, log [0 1 | b]
  r1: view 0, in service, committed to 4, log [0 1 | ]
  r2: view 0, in service, committed to 4, log [0 1 | ]
"""


def test_messages_are_abbreviated() -> None:
    assert described_message(Sync((1 << 40, 2), 3, 4, 4, bytes(range(16)), None)) == (
        "Sync(incarnations=[1:0 2], view=3, position=4, committed=4, committed_hash=0001, outcome=None)"
    )


def test_what_only_the_table_of_states_believes_is_no_violation() -> None:
    """If a snapshot left out what decides, states would be taken for each other; then the nodes themselves are asked."""
    believed = Found(Violation("commits differ", "or so it seems"), [(3, CALL)])
    with pytest.raises(StrettoError, match="some snapshot leaves out what decides"):
        confirmed(toy(), World(toy(), BOUNDS), believed)
