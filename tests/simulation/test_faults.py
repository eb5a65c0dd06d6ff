"""Each fault does what its name says, for a while, within its limits, and can be healed."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from stretto.core.errors import ConfigurationError
from stretto.core.node import Address, Message, Port
from stretto.core.protocol import BOOTSTRAP, Start
from stretto.core.trace import Delivered, Dropped, FaultBegun, FaultEnded, Reported, TimerFired, TraceRecord
from stretto.simulation.disk import DiskTimes
from stretto.simulation.durable import DurableMachine
from stretto.simulation.faults import FAULTS, Faults, check_names, faults_for
from stretto.simulation.faults.base import FaultyNetwork, Strength, Stricken
from stretto.simulation.lifecycle import Lifecycle
from stretto.simulation.network import Delay, DirectNetwork, Links
from stretto.simulation.world import Costs, Machine, World
from stretto.storage.format import Identity
from stretto.storage.store import Store

INTERVAL_NS = 500_000
STEADY = Links(Delay("constant", 20_000), Delay("constant", 0))
DISK = DiskTimes(Delay("constant", 10_000), Delay("constant", 30_000))


class Beat(Message, frozen=True, array_like=True, tag=1, gc=False):
    number: int


class Beacon:
    """Multicasts a number every 500 us, persists it before if it has a disk, and continues from it after a restart.

    With lost state it takes 3 ms to begin.
    """

    def __init__(self, port: Port, start: Start) -> None:
        self.port = port
        self.number = start.records[-1].number if start.records else 0  # type: ignore[attr-defined]
        self.status = "normal" if start.bootstrap or start.records else "recovering"
        port.set_timer("beat", INTERVAL_NS if self.status == "normal" else 6 * INTERVAL_NS)

    def metrics(self) -> dict[str, Any]:
        return {"status": self.status, "in_service": self.status == "normal"}

    def snapshot(self) -> Any:
        return None

    def check_invariants(self) -> None:
        pass

    def on_message(self, source: Address, message: Any) -> None:
        pass

    def on_timer(self, name: str) -> None:
        self.status = "normal"
        self.number += 1
        self.port.persist(Beat(self.number))
        self.port.multicast(Beat(self.number))
        self.port.set_timer("beat", INTERVAL_NS)
        if self.number % 20 == 0:
            self.port.compact([Beat(self.number)])
            self.port.report("twenty")


class Stricter:
    """Five beacons, faults, half a second with them, and a tenth after they were healed. At no time have more than two lost their state."""

    def __init__(self, *names: str, seed: int = 1, durable: bool | None = None, strength: Strength = Strength()) -> None:  # noqa: B008
        self.records: list[TraceRecord] = []
        self.begun: list[tuple[int, Address, list[int], bool]] = []
        """When which beacon restarted, with which numbers, and whether it should have kept its state."""
        group = range(5)
        self.network = FaultyNetwork(DirectNetwork(STEADY, group, Random(0)))
        self.world = World(self.network, group, None, self._trace)
        durable = not set(names) <= set(faults_for("memory", sequencers=1)) if durable is None else durable
        self.machines = [self.world.add(self._machine(address, durable)) for address in group]
        self.lifecycle = Lifecycle(self.machines, self._begin_again)
        for machine in self.machines:
            machine.start(partial(Beacon, start=BOOTSTRAP))
        sequencers = [self.world.add(self._machine(address, False)) for address in (5, 6) if "sequencer_restart" in names]
        for machine in sequencers:
            self._begin_sequencer(machine)
        stricken = Stricken(self.world, self.network, self.lifecycle, [], sequencers, self._begin_sequencer)
        self.faults = Faults(dict.fromkeys(names, strength), stricken, f"{seed}")
        self.world.on_report = lambda *_: self.faults.noticed()
        self.world.run(500_000_000, 1_000_000)
        self.faults.heal()
        self.healed_ns = self.world.now_ns
        self.world.run(600_000_000, 1_000_000)

    def _machine(self, address: Address, durable: bool) -> Machine:
        if not durable:
            return Machine(self.world, address, Costs(), Random(address))
        open_store = partial(Store, identity=Identity(bytes(8), address, "beacons"), record_types=(Beat,))
        return DurableMachine(self.world, address, Costs(), Random(address), DISK, open_store)

    def _begin_sequencer(self, machine: Machine) -> None:
        machine.start(partial(Beacon, start=BOOTSTRAP))

    def _begin_again(self, machine: Machine, start: Start, kept_state: bool) -> None:
        numbers = [record.number for record in start.records]  # type: ignore[attr-defined]
        self.begun.append((self.world.now_ns, machine.address, numbers, kept_state))
        machine.start(partial(Beacon, start=start))

    def _trace(self, record: TraceRecord) -> None:
        self.records.append(record)
        if isinstance(record, FaultBegun):
            assert len(self.lifecycle.lost_state()) <= self.lifecycle.max_lost

    def of(self, kind: type[TraceRecord]) -> list[Any]:
        return [record for record in self.records if type(record) is kind]

    def reported(self, event: str) -> list[Reported]:
        return [record for record in self.of(Reported) if record.event == event]

    def late(self) -> list[int]:
        """By how much deliveries came later than the link takes."""
        return [record.time_ns % INTERVAL_NS - 20_000 for record in self.of(Delivered)]

    def heard(self, source: Address, since_ns: int, until_ns: int) -> int:
        """The highest number of a beacon that anyone heard in that time."""
        deliveries = (record for record in self.of(Delivered) if record.source == source and since_ns <= record.time_ns <= until_ns)
        return max((record.message["number"] for record in deliveries), default=0)

    def journeys(self) -> set[int]:
        """The times from the firing of a timer to the arrival of what was sent then."""
        fired: dict[Address, int] = {}
        found = set()
        for record in self.records:
            if isinstance(record, TimerFired):
                fired[record.node] = record.time_ns
            elif isinstance(record, Delivered):
                found.add(record.time_ns - fired[record.source])
        return found

    def silences(self) -> dict[Address, list[int]]:
        """The times between two firings of each node's timer."""
        last: dict[Address, int] = {}
        found: dict[Address, list[int]] = {machine.address: [] for machine in self.machines}
        for record in self.of(TimerFired):
            found[record.node].append(record.time_ns - last.get(record.node, 0))
            last[record.node] = record.time_ns
        return found


def overtaken(run: Stricter) -> int:
    """Deliveries of a number that is lower than an earlier one from the same sender at the same receiver."""
    highest: Counter[tuple[Address, Address]] = Counter()
    count = 0
    for record in run.of(Delivered):
        pair = record.source, record.node
        number = record.message["number"]
        count += number < highest[pair]
        highest[pair] = max(highest[pair], number)
    return count


def duplicated(run: Stricter) -> int:
    deliveries = Counter((record.source, record.node, record.message["number"]) for record in run.of(Delivered))
    return sum(times > 1 for times in deliveries.values())


def lost(run: Stricter) -> set[tuple[Address, Address]]:
    return {(record.source, record.node) for record in run.of(Dropped)}


def test_without_faults_all_is_well() -> None:
    run = Stricter()
    assert (overtaken(run), duplicated(run), lost(run), set(run.late())) == (0, 0, set(), {0})
    assert run.of(FaultBegun) == []


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_strikes_and_is_healed(name: str) -> None:
    run = Stricter(name)
    begun, ended = run.of(FaultBegun), run.of(FaultEnded)
    assert begun
    assert {record.fault for record in begun} == {name}
    assert run.faults.struck == {name: len(begun)}
    assert max(record.time_ns for record in begun + ended) <= run.healed_ns
    assert run.network.tamperings == []
    if name != "crash":
        assert len(begun) == len(ended)
        after = [record for record in run.records if record.time_ns > run.healed_ns + 100_000_000 - 3 * INTERVAL_NS]
        assert len({record.node for record in after if type(record) is Delivered}) == 5
        assert not any(type(record) is Dropped for record in after)
        assert all(machine.slowdown_ns == 0 for machine in run.machines)
        assert len(run.lifecycle.lost_state()) == 0


@pytest.mark.parametrize("durable", [False, True])
def test_no_mix_of_faults_makes_more_than_f_replicas_lose_their_state(durable: bool) -> None:
    """The assertion is in `Stricter`."""
    names = faults_for("disk" if durable else "memory")
    struck = Counter[str]()
    for seed in range(5):
        struck.update(Stricter(*names, seed=seed, durable=durable, strength=Strength(frequency=20)).faults.struck)
    assert all(struck[name] for name in names), struck


def test_loss() -> None:
    run = Stricter("loss")
    assert lost(run)
    assert (overtaken(run), duplicated(run), set(run.late())) == (0, 0, {0})


def test_duplication() -> None:
    run = Stricter("duplication")
    assert duplicated(run)
    assert not lost(run)


def test_reordering() -> None:
    run = Stricter("reordering", seed=2)
    assert overtaken(run)
    assert not lost(run)
    assert not duplicated(run)


@pytest.mark.parametrize("name", ["partition", "one_way_partition"])
def test_partition(name: str) -> None:
    """Between its beginning and its end, nothing goes from one side to the other. The other direction depends on the kind."""
    run = Stricter(name)
    side: set[Address] | None = None
    crossings = Counter[str]()
    struck_ns = 0
    for record in run.records:
        if isinstance(record, FaultBegun):
            side, struck_ns = set(record.details["side"]), record.time_ns
        elif isinstance(record, FaultEnded):
            side = None
        elif side is not None and isinstance(record, Delivered) and record.time_ns > struck_ns + 20_000:
            inside = record.source in side, record.node in side
            crossings[{(True, False): "out", (False, True): "in"}.get(inside, "within")] += 1
    assert lost(run)
    assert crossings["within"]
    assert crossings["in"] == 0
    assert bool(crossings["out"]) == (name == "one_way_partition")


def test_crash() -> None:
    counts = set()
    for seed in range(4):
        run = Stricter("crash", seed=seed)
        crashed = {machine.address for machine in run.machines if machine.crashed}
        counts.add(len(crashed))
        assert {record.node for record in run.of(FaultBegun)} == crashed
        for record in run.of(TimerFired):
            assert record.node not in crashed or record.time_ns <= max(fault.time_ns for fault in run.of(FaultBegun))
    assert counts <= {1, 2}
    assert 2 in counts


@pytest.mark.parametrize("durable", [False, True])
def test_restart_loses_all_state_and_may_strike_again_before_it_has_recovered(durable: bool) -> None:
    run = Stricter("restart", durable=durable, strength=Strength(frequency=10, duration=0.1))
    assert run.begun
    assert all(numbers == [] and not kept_state for _, _, numbers, kept_state in run.begun)
    started: dict[Address, list[int]] = {}
    for time_ns, address, _, _ in run.begun:
        started.setdefault(address, []).append(time_ns)
    spans = [later - earlier for times in started.values() for earlier, later in pairwise(times)]
    assert min(spans) < 3_000_000 < max(spans)
    assert 0 < run.lifecycle.recovered < run.lifecycle.restarts


def kept_states(run: Stricter) -> Counter[bool]:
    """How many incarnations kept their state, and how many lost it. One that kept it knows everything that others have received from it."""
    forgot_ns = Counter[Address]()
    for time_ns, address, numbers, kept_state in run.begun:
        if kept_state:
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
            assert run.heard(address, forgot_ns[address], time_ns) <= numbers[-1]
        else:
            assert numbers == []
            forgot_ns[address] = time_ns
    return Counter(kept_state for *_, kept_state in run.begun)


@pytest.mark.parametrize("name", ["kill", "power_cut", "disk_full", "failing_sync"])
def test_records_that_a_message_depended_on_survive(name: str) -> None:
    """Only a replica that has never persisted anything begins with lost state."""
    found = sum((kept_states(Stricter(name, seed=seed, strength=Strength(frequency=5))) for seed in range(3)), Counter[bool]())
    assert found[True] > 10 * found[False]


def test_power_cut_ends_all_at_once() -> None:
    run = Stricter("power_cut")
    for record in run.of(FaultBegun):
        assert record.details["replicas"] == [0, 1, 2, 3, 4]
    assert len(run.begun) == 5 * len(run.of(FaultBegun))


@pytest.mark.parametrize("name", ["disk_full", "failing_sync"])
def test_a_disk_that_fails_ends_the_replica_until_it_works_again(name: str) -> None:
    run = Stricter(name, strength=Strength(frequency=5))
    failed = run.reported("disk failed")
    assert len(failed) == len(run.begun) > 0
    ends = {record.time_ns for record in run.of(FaultEnded)}
    assert {time_ns for time_ns, *_ in run.begun} <= ends


def test_a_flipped_bit_is_detected_or_harmless() -> None:
    found = Counter[bool]()
    for seed in range(10):
        run = Stricter("bit_flip", seed=seed, strength=Strength(frequency=5))
        found += kept_states(run)
        assert len(run.reported("corrupt")) == kept_states(run)[False]
    assert found[False] > found[True] > 0


def test_slow_disk() -> None:
    # A sync takes 10 us, two of them where a segment ends.
    assert Stricter(durable=True).journeys() == {30_000, 40_000}
    assert max(Stricter("slow_disk").journeys()) > 400_000


def test_clock_drift() -> None:
    run = Stricter("clock_drift")
    spans = [span for silences in run.silences().values() for span in silences]
    assert INTERVAL_NS // 2 <= min(spans) < 0.9 * INTERVAL_NS
    assert 1.1 * INTERVAL_NS < max(spans) <= 2 * INTERVAL_NS


def test_a_wrong_clock_is_off_by_up_to_an_hour_and_timers_do_not_mind() -> None:
    run = Stricter("wrong_clock")
    offsets = [record.details["offset_ns"] for record in run.of(FaultBegun)]
    assert min(offsets) < 0 < max(offsets)
    assert 10**9 < max(map(abs, offsets)) <= 3_600 * 10**9
    usual = Stricter().silences()
    assert {max(silences) for silences in run.silences().values()} == {max(silences) for silences in usual.values()}
    assert all(machine.wall_offset_ns == 0 for machine in run.machines)


def test_pause() -> None:
    run = Stricter("pause")
    assert max(map(max, run.silences().values())) > 10 * INTERVAL_NS
    assert {record.reason for record in run.of(Dropped)} <= {"queue full"}


def test_strengths_set_frequency_duration_and_severity() -> None:
    often, seldom = (Stricter("loss", strength=Strength(frequency=frequency)).faults.struck["loss"] for frequency in (1, 0.01))
    assert often > 4 * seldom > 0
    briefly = Stricter("pause", strength=Strength(duration=0.01))
    assert max(map(max, briefly.silences().values())) <= 10_000_000 + INTERVAL_NS
    mildly = Stricter("loss", strength=Strength(severity=0.1))
    assert max(record.details["probability"] for record in mildly.of(FaultBegun)) < 0.002


def test_slow() -> None:
    late = Stricter("slow").late()
    assert any(late)


def test_many_strikes_come_right_after_a_report() -> None:
    """Beacons report every 10 ms, so a tenth of all strikes would come within 1 ms by chance."""
    run = Stricter("slow", strength=Strength(duration=0.05))
    reported = [record.time_ns for record in run.reported("twenty")]
    struck = [record.time_ns for record in run.of(FaultBegun)]
    close = sum(any(0 <= time_ns - earlier <= 1_000_000 for earlier in reported) for time_ns in struck)
    assert len(struck) > 50
    assert 0.25 < close / len(struck) < 0.75


@pytest.mark.parametrize("durability", ["memory", "disk"])
def test_the_same_seed_strikes_in_the_same_way(durability: str) -> None:
    names = faults_for(durability)
    assert Stricter(*names, seed=3).records == Stricter(*names, seed=3).records
    assert Stricter(*names, seed=3).records != Stricter(*names, seed=4).records


def test_impossible_faults_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="'losses' is not a fault; there are loss, "):
        check_names(["loss", "losses"], "memory")
    with pytest.raises(ConfigurationError, match="'power_cut' strikes disks, and there are none with durability 'memory'"):
        check_names(["loss", "power_cut"], "memory")
    check_names(["loss", "power_cut"], "disk")
