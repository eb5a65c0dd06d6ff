"""What an experiment can run. Each kind of point can run itself, estimate how long that takes, and name the command that repeats it.

A point is plain data and determines its run completely, so equal points give equal rows on every worker.
"""

from __future__ import annotations

import shlex
from typing import Any, ClassVar

import msgspec

from stretto import catalog
from stretto.bench.simulated import measure_simulated
from stretto.network.experiment import Setting
from stretto.reproduction.alternation import measure_alternation
from stretto.reproduction.reconciliations import measure_reconciliations
from stretto.simulation.spec import SimulationSpec

Figures = dict[str, Any]
_ALTERNATING_OPS_S = 12_000
"""About how many operations a session completes per second on an alternating network."""

_TESTBED = "reproduce"
_CLIENT_HOSTS, _SESSIONS_ON_TESTBED = 3, 12
_S_PER_OPERATION = 1.8e-5
"""About how many seconds one operation takes to simulate for each replica, on a machine of speed 1 (see `runner.slowness`)."""


class Point(msgspec.Struct, frozen=True, tag_field="kind"):
    """Something to run once.

    `factors` identify the point in its experiment: a protocol, a number of replicas, a rate. They become columns of its row.
    """

    factors: dict[str, Any]

    alone: ClassVar[bool] = False
    """Whether nothing else may run on this machine at the same time, because real time is measured."""

    def run(self) -> Figures:
        """Run the point and return its figures."""
        raise NotImplementedError

    def command(self) -> str:
        """The command line that repeats this point."""
        raise NotImplementedError

    def expected_s(self) -> float:
        """About how many seconds it takes on a machine of speed 1."""
        raise NotImplementedError


class Simulated(Point, frozen=True, tag="simulated"):
    """A cluster in virtual time, with each node on a machine of its own."""

    spec: SimulationSpec

    def run(self) -> Figures:
        """See `stretto.bench.simulated.measure_simulated`."""
        return measure_simulated(self.spec, catalog.protocol_for(self.spec.config()))

    def command(self) -> str:
        """A run with the same specification, whose figures include the warm-up."""
        return self.spec.command()

    def expected_s(self) -> float:
        """Estimated from the numbers of operations and replicas."""
        return _expected_s(self.spec)


class Reconciling(Point, frozen=True, tag="reconciling"):
    """A simulated cluster whose reconciliations are measured."""

    spec: SimulationSpec

    def run(self) -> Figures:
        """See `stretto.reproduction.reconciliations.measure_reconciliations`."""
        return measure_reconciliations(self.spec, catalog.protocol_for(self.spec.config()))

    def command(self) -> str:
        """A run with the same specification."""
        return self.spec.command()

    def expected_s(self) -> float:
        """Longer than without reconciliations, which send logs and roll operations back."""
        return 2.5 * _expected_s(self.spec)


class Alternating(Point, frozen=True, tag="alternating"):
    """A simulated cluster on a network that alternates between good and bad spells."""

    spec: SimulationSpec

    def run(self) -> Figures:
        """See `stretto.reproduction.alternation.measure_alternation`."""
        return measure_alternation(self.spec, catalog.protocol_for(self.spec.config()))

    def command(self) -> str:
        """A run with the same specification, with the estimated number of operations."""
        return msgspec.structs.replace(self.spec, operations=round(self._operations())).command()

    def _operations(self) -> float:
        return self.spec.fault_ns / 1e9 * self.spec.sessions * _ALTERNATING_OPS_S

    def expected_s(self) -> float:
        """Estimated from the virtual time of the run."""
        return self._operations() * self.spec.replicas * _S_PER_OPERATION


class Ordering(Point, frozen=True, tag="ordering"):
    """Multicasts through the packet-level model of a network, without a protocol: how many arrive out of order."""

    setting: Setting

    def run(self) -> Figures:
        """See `stretto.network.experiment`."""
        from stretto.bench.network import timed

        outcome, _ = timed(self.setting)
        p50, p99, worst = outcome.latency_us
        figures: Figures = msgspec.to_builtins(outcome.disagreement)
        return figures | {"loss": outcome.loss, "latency_us": {"p50": p50, "p99": p99, "max": worst}}

    def command(self) -> str:
        """The sweep with this one setting."""
        setting = self.setting
        words = ["stretto", "network", "reorder", "--design", setting.design]
        for name in ("topology", "senders", "receivers", "seed", "merge", "load", "rate", "messages", "bursts"):
            words += [f"--{name}", str(getattr(setting, name))]
        return shlex.join(words)

    def expected_s(self) -> float:
        """Estimated from the number of messages and the load of other traffic."""
        return self.setting.messages * (1 + 8 * self.setting.load) * 2.8e-4


class Real(Point, frozen=True, tag="real"):
    """Replicas and clients as processes on this machine. The fields are options of `stretto bench`."""

    protocol: str
    replicas: int
    sessions: int
    seconds: float
    warm_up_s: float
    client_processes: int = 1
    one_order: bool = False
    kill: str | None = None

    alone = True

    def run(self) -> Figures:
        """Start a cluster, measure it under load, and end it."""
        from stretto.bench.plan import Plan
        from stretto.bench.report import cpu_of_followers_us, cpu_of_leader_us
        from stretto.bench.run import own_config, run

        more: dict[str, Any] = {"one_order": self.one_order, "kill": self.kill, "warm_up_s": self.warm_up_s}
        plan = Plan(self.client_processes, self.sessions, self.seconds, **more)
        config = own_config(plan, self.protocol, self.replicas)
        figures = run(plan.validate(config), config, _silent)
        wanted = ("operations", "throughput_ops_s", "latency_us", "client_cpu_us_per_op", "datagrams_per_op", "failures")
        counted = ("reconciliations_per_s", "view_changes", *(("kill",) if self.kill else ()))
        leader, each = figures["leader"], figures["replica_cpu_us_per_op"]
        cpu = {"leader": cpu_of_leader_us(leader, each), "follower": cpu_of_followers_us(leader, each)}
        return {name: figures[name] for name in (*wanted, *counted)} | {"cpu_us_per_op": cpu}

    def command(self) -> str:
        """The benchmark with these options."""
        words = ["stretto", "bench", "--protocol", self.protocol, "--replicas", self.replicas, "--sessions", self.sessions]
        words += ["--seconds", self.seconds, "--warm-up", self.warm_up_s]
        if self.client_processes > 1:
            words += ["--client-processes", self.client_processes]
        if self.one_order:
            words.append("--one-order")
        if self.kill:
            words += ["--kill", self.kill]
        return shlex.join(map(str, words))

    def expected_s(self) -> float:
        """The measured time, and the start and the end of the processes."""
        return self.seconds + self.warm_up_s + 1 + 0.2 * self.client_processes


class SwitchedOrdering(Point, frozen=True, tag="switched-ordering"):
    """Multicasts over the switches of a testbed, and the same multicasts in the model."""

    setting: Setting

    alone = True

    def run(self) -> Figures:
        """See `stretto.testbed.reordering` and `stretto.testbed.in_model`."""
        from stretto.network.groups import place
        from stretto.testbed.in_model import run_in_model, switch_delay_ns
        from stretto.testbed.reordering import measure
        from stretto.testbed.session import running

        setting = self.setting
        with running(_TESTBED) as (fabric, controller):
            group = place(fabric.plan.topology, setting.senders, setting.receivers, setting.seed)
            delay_ns = switch_delay_ns(fabric, controller, group, setting.seed)
            seen = measure(fabric, controller, setting)
            model, _ = run_in_model(fabric, delay_ns, setting)
        shares = {"overtaken": seen.outcome.disagreement.overtaken, "model_overtaken": model.disagreement.overtaken}
        percent = {f"{name}_percent": 100 * share for name, share in shares.items()}
        p50, p99, worst = seen.outcome.latency_us
        return shares | percent | {"loss": seen.outcome.loss, "latency_us": {"p50": p50, "p99": p99, "max": worst}, "delay_ns": delay_ns}

    def command(self) -> str:
        """The sweep with this one setting."""
        setting = self.setting
        words = ["stretto", "testbed", "reorder", "--model", "--design", setting.design, "--background", str(setting.load)]
        for name in ("senders", "receivers", "seed", "merge", "rate", "messages"):
            words += [f"--{name}", str(getattr(setting, name))]
        return shlex.join(words)

    def expected_s(self) -> float:
        """The messages, those that measure the delay of switches, and the start and the end of the testbed."""
        return self.setting.messages / self.setting.rate + 6


class Switched(Point, frozen=True, tag="switched"):
    """A protocol over one design on the switches of a testbed, in an open loop."""

    protocol: str
    design: str
    rate_ops_s: float
    seconds: float
    seed: int

    alone = True

    def run(self) -> Figures:
        """See `stretto.bench.testbed`."""
        from stretto.bench.plan import Plan
        from stretto.bench.testbed import Setting, measure_on
        from stretto.network.designs import Design
        from stretto.testbed.session import running

        plan = Plan(_CLIENT_HOSTS, _SESSIONS_ON_TESTBED, self.seconds, rate_ops_s=self.rate_ops_s, seed=self.seed)
        with running(_TESTBED) as (fabric, controller):
            design = Design(self.design, salt=self.seed)
            figures = measure_on(fabric, controller, plan, Setting(), self.protocol, design, _silent)
        wanted = ("operations", "throughput_ops_s", "latency_us", "reconciliations_per_s", "view_changes", "failures")
        rolled_back = 100 * figures["rolled_back_operations"] / max(figures["operations"], 1)
        return {name: figures[name] for name in wanted} | {"rolled_back_percent": rolled_back}

    def command(self) -> str:
        """The benchmark of this protocol and design."""
        words = ["stretto", "testbed", "bench", "--protocol", self.protocol, "--design", self.design, "--rate", self.rate_ops_s]
        words += ["--client-processes", _CLIENT_HOSTS, "--sessions", _SESSIONS_ON_TESTBED, "--seconds", self.seconds, "--seed", self.seed]
        return shlex.join(map(str, words))

    def expected_s(self) -> float:
        """The measured time, and the start and the end of the testbed and the cluster."""
        return self.seconds + 7


AnyPoint = Simulated | Reconciling | Alternating | Ordering | Real | SwitchedOrdering | Switched


def _expected_s(spec: SimulationSpec) -> float:
    operations = spec.operations * 1.2 + 3 * spec.sessions
    in_packets = 0.5 + 8 * spec.fabric.load + operations * (2e-4 + 1.2e-3 * spec.fabric.load) if spec.fabric.topology else 0
    return in_packets + operations * spec.replicas * _S_PER_OPERATION


def _silent(_what: str, _done: float | None) -> None:
    """Progress is shown for each point, not within a point."""
