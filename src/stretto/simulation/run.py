"""One run: it checks safety under faults and then, when all faults are healed, liveness."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import msgspec

from stretto.core.config import ClusterConfig
from stretto.core.model import Model
from stretto.core.node import Address, Node, Port, Replica
from stretto.core.protocol import BOOTSTRAP, ProtocolDefinition, Start
from stretto.core.state_machine import NullMachine, StateMachine
from stretto.core.trace import Tracer
from stretto.simulation.coverage import Coverage
from stretto.simulation.durable import DurableMachine
from stretto.simulation.fabric import FabricNetwork
from stretto.simulation.faults import Faults
from stretto.simulation.faults.base import FaultyNetwork, Stricken
from stretto.simulation.lifecycle import Lifecycle, in_service
from stretto.simulation.load import ClosedLoop, Workload, short_bytes
from stretto.simulation.metering import MeteredMachine
from stretto.simulation.network import DirectNetwork, DisturbedNetwork, Network
from stretto.simulation.spec import SimulationSpec
from stretto.simulation.world import Codec, Machine, World
from stretto.storage.format import Identity
from stretto.storage.store import Store
from stretto.verify.calls import CallObserver
from stretto.verify.history import Operation
from stretto.verify.linearizability import NOT_LINEARIZABLE, at_most, check
from stretto.verify.logs import LogObserver
from stretto.verify.violation import Violation, shortened

CLIENT_ADDRESSES: Address = 1 << 20
"""Clients have addresses from here on; replicas have the lowest addresses, and sequencers follow them."""

_POLL_NS = 1_000_000
_EVENTS_AT_LEAST = 5_000_000
_EVENTS_PER_OPERATION = 2_000
_CONFIGURATIONS = 100_000
"""The limit of the search for a linearization: it takes a few seconds at most."""


class FoundViolation(msgspec.Struct, frozen=True):
    """A violation, when it was found in virtual time, and the command that repeats the run."""

    kind: str
    description: str
    time_ns: int
    seed: int
    command: str


class Percentiles(msgspec.Struct, frozen=True):
    """Latencies in microseconds."""

    p50: float
    p90: float
    p99: float
    max: float


class SimulationResult(msgspec.Struct, frozen=True):
    """The result of a run. Times are virtual. Throughput and latency are of the time until the faults were healed.

    - `operations`: calls that had a result by then; `failures`: calls that failed, by the name of the error;
    - `settled_ms`: how long it took until everything was complete after that; None if it did not complete;
    - `messages_delivered`, `datagrams_delivered`: over all nodes and the whole run;
    - `view_changes`, `reconciliations`: the highest count of any replica; `rolled_back_operations`: the sum over all replicas;
    - `crashed`: the replicas that are down at the end; `restarts`: how often replicas restarted; `recoveries`: how many of these restarts
      were with lost state and came back into service;
    - `struck`: how often each fault struck; `events`: how often nodes reported each event; `features`: see `stretto.simulation.coverage`;
    - `history`: the verdict of the linearizability checker, which may be "unknown"; None if it was not asked;
    - `metrics`: the metrics of each replica, by index.
    """

    spec: SimulationSpec
    operations: int
    failures: dict[str, int]
    virtual_seconds: float
    throughput_ops_s: float
    latency_us: Percentiles | None
    settled_ms: float | None
    messages_delivered: int
    datagrams_delivered: int
    view_changes: int
    reconciliations: int
    rolled_back_operations: int
    committed: int
    crashed: list[int]
    restarts: int
    recoveries: int
    struck: dict[str, int]
    events: dict[str, int]
    features: list[str]
    history: str | None
    metrics: list[dict[str, Any]]
    violation: FoundViolation | None


class Simulation:
    """The nodes of one run and their observers. `simulate` is the usual way to use it.

    `history` has every call of the run so far, if the specification asks for checks; `clients` are the machines of the client nodes.
    """

    def __init__(
        self,
        spec: SimulationSpec,
        protocol: ProtocolDefinition,
        machine: Callable[[], StateMachine] = NullMachine,
        workload: Workload = short_bytes,
        trace: Tracer | None = None,
        model: Model | None = None,
    ) -> None:
        self.spec = spec
        self._model = model
        self._protocol = protocol
        seed = spec.seed
        group = range(spec.replicas)
        addresses = range(CLIENT_ADDRESSES, CLIENT_ADDRESSES + spec.clients)
        sequencers = range(spec.replicas, spec.replicas + spec.sequencers)
        fabric = FabricNetwork(spec.fabric, group, (*sequencers, *addresses), seed) if spec.fabric.topology else None
        plain: Network = fabric or DirectNetwork(spec.links, group, Random(f"{seed}/network"))
        if spec.links.disturbed:
            plain = DisturbedNetwork(plain, spec.links, Random(f"{seed}/disturbance"))
        network = FaultyNetwork(plain)
        # A network with queues needs the sizes of packets.
        codec = Codec(protocol.message_types) if spec.checks or fabric else None
        self.world = World(network if spec.faults else plain, group, codec, trace)
        if fabric is not None:
            fabric.at = self.world.at
        self._replicas = [self._replica_host(address, protocol) for address in group]
        self._sequencers = [self.world.add(Machine(self.world, a, spec.sequencer_costs, Random(f"{seed}/{a}"))) for a in sequencers]
        self.clients = [self.world.add(Machine(self.world, a, spec.client_costs, Random(f"{seed}/{a}"))) for a in addresses]
        self._start_nodes(protocol, spec.config(), machine)
        self.lifecycle = Lifecycle(self._replicas, self._restart)
        self._replicas[-1 - spec.dead].slowdown_ns += spec.slow_ns
        for host in self._replicas[spec.replicas - spec.dead :]:
            self.world.at(_POLL_NS, self._crash_for_good, host)
        stricken = Stricken(self.world, network, self.lifecycle, self.clients, self._sequencers, self._begin_sequencer)
        strengths = {fault: spec.strength_of(fault) for fault in spec.faults}
        self._faults = Faults(strengths, stricken, f"{seed}/faults")
        self._coverage = Coverage(lambda: self._faults.active)
        self.world.on_report = self._reported
        self._calls = CallObserver(machine)
        self._logs = LogObserver([replica.node for replica in self._replicas], machine, self._calls.committed)
        if spec.checks:
            self.world.watch = self._watch
            self.world.watch_disk = self._watch_disk
        self.load = ClosedLoop(
            self.world,
            self.clients,
            spec.sessions,
            workload,
            spec.think_ns,
            Random(f"{seed}/load"),
            self._calls if spec.checks else None,
        )
        self._max_events = _EVENTS_AT_LEAST + _EVENTS_PER_OPERATION * spec.operations
        self._settled_ms: float | None = None
        self._history_verdict: str | None = None

    @property
    def history(self) -> list[Operation]:
        """Every call so far."""
        return self._calls.history

    def run(self) -> SimulationResult:
        """Run both parts. Call it once."""
        violation: FoundViolation | None = None
        try:
            self._work_under_faults()
        except Exception as error:
            violation = self._found(error)
        healed_ns, operations, failures = self.world.now_ns, self.load.completed, dict(self.load.failures)
        if violation is None:
            try:
                self._settle()
            except Exception as error:
                violation = self._found(error)
        return self._result(healed_ns, operations, failures, violation)

    # The two parts of a run

    def _work_under_faults(self) -> None:
        self.load.begin(self.spec.operations)
        self.world.run(self.spec.fault_ns, self._max_events)
        self._faults.heal()

    def _settle(self) -> None:
        """Replicas that crashed for good stay down; all others are running. Now every call must complete, pending and new ones, its
        result must be committed, and every running replica must have committed it.
        """
        began_ns = self.world.now_ns
        deadline_ns = began_ns + self.spec.settle_ns
        if self.load.outstanding:
            self.load.end()
            self._run_until(deadline_ns, lambda: f"{self.load.outstanding} calls that were pending when all was healed")
        self.load.begin_afresh()
        self._run_until(deadline_ns, lambda: "fresh calls, made when all was healed,")
        if self.spec.checks:
            self.world.at(self.world.now_ns, self._poll_commits)
            self._run_until(deadline_ns, self._uncommitted)
            self._calls.finish()
            self._logs.check_agreement(machine.address for machine in self.lifecycle.running())
            self._check_history()
        self._settled_ms = (self.world.now_ns - began_ns) / 1e6

    def _check_history(self) -> None:
        """Search for a linearization, without the logs. The observers' checks should imply that there is one."""
        if self._model is None:
            return
        self._history_verdict = (verdict := check(self.history, self._model, at_most(_CONFIGURATIONS))).verdict
        if verdict.failure is not None:
            keys = shortened(verdict.failure.keys)
            raise Violation(NOT_LINEARIZABLE, f"the operations on {keys} among the first {verdict.failure.prefix} calls have no order")

    def _run_until(self, deadline_ns: int, what: Callable[[], str]) -> None:
        if not self.world.run(deadline_ns, self._max_events):
            reason = f"{what()} have not completed in {self.spec.settle_ns / 1e9:g} s without a fault"
            raise Violation("no progress", reason)

    def _poll_commits(self, _first: Any, _second: Any) -> None:
        if self._calls.uncommitted or self._laggards():
            self.world.at(self.world.now_ns + _POLL_NS, self._poll_commits)
        else:
            self.world.stop()

    def _laggards(self) -> list[Address]:
        """The running replicas that have not committed everything that another has committed, or are not in service."""
        running = self.lifecycle.running()
        return [machine.address for machine in running if machine.node.state.committed < self._logs.committed or not in_service(machine)]

    def _uncommitted(self) -> str:
        return f"{self._calls.uncommitted} accepted results are not committed, and replicas {self._laggards()} lag behind: these"

    # Building and watching

    def _crash_for_good(self, machine: Machine, _: Any) -> None:
        """Stop one of the `dead` replicas, as soon as no other replica waits for its start and the loss of its state is allowed."""
        if self.lifecycle.bootstrapping() or machine not in self.lifecycle.may_lose_state():
            self.world.at(self.world.now_ns + _POLL_NS, self._crash_for_good, machine)
        else:
            self.lifecycle.crash_for_good(machine)

    def _replica_host(self, address: Address, protocol: ProtocolDefinition) -> Machine:
        spec = self.spec
        random = Random(f"{spec.seed}/{address}")
        if spec.durability == "memory":
            return self.world.add(Machine(self.world, address, spec.costs, random))
        identity = Identity(spec.config().digest(), address, protocol.data_name)
        open_store = partial(Store, identity=identity, record_types=protocol.record_types)
        return self.world.add(DurableMachine(self.world, address, spec.costs, random, spec.disk, open_store))

    def _start_nodes(self, protocol: ProtocolDefinition, config: ClusterConfig, machine: Callable[[], StateMachine]) -> None:
        def new_replica(port: Port, start: Start) -> Replica:
            made = machine()
            if self.spec.costs.execute_ns:
                made = MeteredMachine(made, self.world.machines[port.address])
            return protocol.replica(port, config, port.address, made, start)

        self._new_replica = new_replica
        for host in self._replicas:
            host.start(partial(self._new_replica, start=BOOTSTRAP))
        for host in self._sequencers:
            self._begin_sequencer(host)
        for host in self.clients:
            host.start(lambda port: protocol.client(port, config))

    def _begin_sequencer(self, host: Machine) -> None:
        factory, config = self._protocol.sequencer, self.spec.config()
        assert factory is not None, f"{config.protocol} has no sequencers"
        host.start(lambda port: factory(port, config, port.address - config.n))

    def _restart(self, host: Machine, start: Start, kept_state: bool) -> None:
        def begin(port: Port) -> Node:
            replica = self._new_replica(port, start)
            if self.spec.checks:
                self._logs.began_again(host.address, replica, kept_state)
            return replica

        host.start(begin)

    def _reported(self, address: Address, event: str, details: dict[str, Any]) -> None:
        self._coverage.reported(address, event, details)
        self._faults.noticed()
        if event == "outcomes differ":
            raise Violation("outcomes differ", f"replica {address} at position {details['position']}: {details['results']}")
        if event == "stopped" and not self.lifecycle.refused(address):
            raise Violation("node stopped", f"replica {address} says: {details['reason']}")
        if event == "stopped":  # it was bootstrapped by mistake, and is now started properly
            self.world.at(self.world.now_ns + _POLL_NS, self._start_properly, self._replicas[address])

    def _start_properly(self, machine: Machine, _: Any) -> None:
        self.lifecycle.restart(machine)

    def _watch(self, machine: Machine) -> None:
        machine.node.check_invariants()
        if machine.durable:
            self._logs.during_burst(machine.address)
        elif machine.address < self.spec.replicas:
            self._logs.after_step(machine.address)

    def _watch_disk(self, machine: Machine) -> None:
        self._logs.after_step(machine.address)

    def _found(self, error: Exception) -> FoundViolation:
        if isinstance(error, Violation):
            kind, description = error.kind, error.description
        else:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            kind = "invariant broken" if isinstance(error, AssertionError) else "node raised"
            place = f"{frame.filename.rpartition('/src/')[2]}:{frame.lineno} in {frame.name}: {frame.line}"
            description = f"{type(error).__name__}: {error} ({place})"
        return FoundViolation(kind, description, self.world.now_ns, self.spec.seed, self.spec.command())

    def _result(self, healed_ns: int, operations: int, failures: dict[str, int], violation: FoundViolation | None) -> SimulationResult:
        metrics = [machine.node.metrics() for machine in self._replicas]
        machines = self.world.machines.values()
        seconds = healed_ns / 1e9
        return SimulationResult(
            spec=self.spec,
            operations=operations,
            failures=failures,
            virtual_seconds=seconds,
            throughput_ops_s=round(operations / seconds, 1) if seconds else 0.0,
            latency_us=percentiles(self.load.latencies_ns[:operations]),
            settled_ms=self._settled_ms,
            messages_delivered=sum(machine.messages_received for machine in machines),
            datagrams_delivered=sum(machine.datagrams_received for machine in machines),
            view_changes=max(replica.get("view_changes", 0) for replica in metrics),
            reconciliations=max(replica.get("reconciliations", 0) for replica in metrics),
            rolled_back_operations=sum(replica.get("rolled_back_operations", 0) for replica in metrics),
            committed=max(machine.node.state.committed for machine in self._replicas),
            crashed=[machine.address for machine in self._replicas if machine.crashed],
            restarts=self.lifecycle.restarts,
            recoveries=self.lifecycle.recovered,
            struck=self._faults.struck,
            events=self._coverage.events,
            features=sorted(self._coverage.features),
            history=self._history_verdict,
            metrics=metrics,
            violation=violation,
        )


def percentiles(latencies_ns: list[int]) -> Percentiles | None:
    """The percentiles of latencies; each is a measured value. None if there are no latencies."""
    if not latencies_ns:
        return None
    ordered = sorted(latencies_ns)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1_000

    return Percentiles(at(0.5), at(0.9), at(0.99), ordered[-1] / 1_000)


def simulate(
    spec: SimulationSpec,
    protocol: ProtocolDefinition,
    machine: Callable[[], StateMachine] = NullMachine,
    workload: Workload = short_bytes,
    trace: Tracer | None = None,
    model: Model | None = None,
) -> SimulationResult:
    """Run `spec` with the nodes of `protocol`. The same arguments give the same result, and byte by byte the same trace.

    Parameters: `machine`, which makes the replicated state machine; `workload`, which draws operations for it; `trace`, which takes trace
    records; `model`, with which the history is checked at the end if the specification asks for checks. A violation is not raised: it is
    in the result.
    """
    return Simulation(spec, protocol, machine, workload, trace, model).run()
