"""What an experiment can have run: each kind of point knows how to run itself, how long it takes about, and the command that repeats it.

A point is plain data and decides everything about its run, so that equal points give equal rows, whoever runs them.
"""

from __future__ import annotations

import shlex
from typing import Any, ClassVar

import msgspec

from stretto import catalog
from stretto.bench.simulated import measure_simulated
from stretto.evaluation.alternation import measure_alternation
from stretto.evaluation.reconciliations import measure_reconciliations
from stretto.network.experiment import Setting
from stretto.simulation.spec import SimulationSpec

Figures = dict[str, Any]
_ALTERNATING_OPS_S = 12_000
"""What a session does on an alternating network, about."""

_TESTBED = "reproduce"
_CLIENT_HOSTS, _SESSIONS_ON_TESTBED = 3, 12
_S_PER_OPERATION = 1.8e-5
"""What an operation takes to simulate for each replica, about, on the machine of which `stretto.evaluation.runner` takes the speed as 1."""


class Point(msgspec.Struct, frozen=True, tag_field="kind"):
    """Something to run once.

    `factors` say which point of an experiment it is: a protocol, a number of replicas, a rate; they become columns of its row.
    """

    factors: dict[str, Any]

    alone: ClassVar[bool] = False
    """Whether nothing else may run on this machine meanwhile, because time is measured and not simulated."""

    def run(self) -> Figures:
        """Run it, and say what came of it."""
        raise NotImplementedError

    def command(self) -> str:
        """The command line that runs this once more."""
        raise NotImplementedError

    def expected_s(self) -> float:
        """How many seconds it takes, about, on a machine of speed 1."""
        raise NotImplementedError


class Simulated(Point, frozen=True, tag="simulated"):
    """A cluster in virtual time, each node on a machine of its own."""

    spec: SimulationSpec

    def run(self) -> Figures:
        """See `stretto.bench.simulated.measure_simulated`."""
        return measure_simulated(self.spec, catalog.protocol_for(self.spec.config()))

    def command(self) -> str:
        """A run with the same specification, whose figures include the warm-up."""
        return self.spec.command()

    def expected_s(self) -> float:
        """By operations and replicas."""
        return _expected_s(self.spec)


class Reconciling(Point, frozen=True, tag="reconciling"):
    """The same, watched for its reconciliations."""

    spec: SimulationSpec

    def run(self) -> Figures:
        """See `stretto.evaluation.reconciliations.measure_reconciliations`."""
        return measure_reconciliations(self.spec, catalog.protocol_for(self.spec.config()))

    def command(self) -> str:
        """A run with the same specification."""
        return self.spec.command()

    def expected_s(self) -> float:
        """Logs that differ are rolled back and sent about."""
        return 2.5 * _expected_s(self.spec)


class Alternating(Point, frozen=True, tag="alternating"):
    """The same, on a network that is good and bad in turns."""

    spec: SimulationSpec

    def run(self) -> Figures:
        """See `stretto.evaluation.alternation.measure_alternation`."""
        return measure_alternation(self.spec, catalog.protocol_for(self.spec.config()))

    def command(self) -> str:
        """A run with the same specification, of as many operations as it may come to."""
        return msgspec.structs.replace(self.spec, operations=round(self._operations())).command()

    def _operations(self) -> float:
        return self.spec.fault_ns / 1e9 * self.spec.sessions * _ALTERNATING_OPS_S

    def expected_s(self) -> float:
        """By the virtual time that it takes."""
        return self._operations() * self.spec.replicas * _S_PER_OPERATION


class Ordering(Point, frozen=True, tag="ordering"):
    """Multicasts through the packet-level model of a network, without any protocol: how much order they keep."""

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
        """By the messages, and what other traffic each of them meets."""
        return self.setting.messages * (1 + 8 * self.setting.load) * 2.8e-4


class Real(Point, frozen=True, tag="real"):
    """Replicas and clients as processes on this machine, on its clock. The others are options of `stretto bench`."""

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
        """Start a cluster, put it under load, and end it."""
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
        """The time that is measured, and what comes before and after."""
        return self.seconds + self.warm_up_s + 1 + 0.2 * self.client_processes


class SwitchedOrdering(Point, frozen=True, tag="switched-ordering"):
    """Multicasts over the switches of a testbed, and the same in the model."""

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
        """The messages, those by which switches are timed, and bringing the testbed up and down."""
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
        """The time that is measured, and bringing everything up and down."""
        return self.seconds + 7


AnyPoint = Simulated | Reconciling | Alternating | Ordering | Real | SwitchedOrdering | Switched


def _expected_s(spec: SimulationSpec) -> float:
    operations = spec.operations * 1.2 + 3 * spec.sessions
    in_packets = 0.5 + 8 * spec.fabric.load + operations * (2e-4 + 1.2e-3 * spec.fabric.load) if spec.fabric.topology else 0
    return in_packets + operations * spec.replicas * _S_PER_OPERATION


def _silent(_what: str, _done: float | None) -> None:
    """Progress is shown by the point, not within it."""
