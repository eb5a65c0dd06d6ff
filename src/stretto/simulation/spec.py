"""What is to be simulated, as plain data: it can be stored, printed as a command line, and drawn at random."""

from __future__ import annotations

import shlex
from difflib import get_close_matches
from random import Random
from typing import Any

import msgspec

from stretto.core.config import ClusterConfig, Limits, Member, Timeouts
from stretto.core.errors import ConfigurationError
from stretto.simulation.fabric import Fabric
from stretto.simulation.faults import FAULTS, check_names
from stretto.simulation.network import Delay, Links
from stretto.simulation.world import Costs

NULL_SERVICE = "stretto.core.state_machine:NullMachine"
_TABLES = ("timeouts", "limits", "links", "fabric", "costs", "client_costs")


class SimulationSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run: who takes part, what they do, what goes wrong, and the seed that decides the rest.

    - `protocol`, `service`: names, as in a cluster's configuration;
    - `replicas`, `clients`: how many nodes of each; `sessions`: how many calls are outstanding, over all clients;
    - `operations`: how many calls are made in all; `think_ns`: the mean time between a return and the next call of that session;
    - `faults`: names from `stretto.simulation.faults.FAULTS`;
    - `fault_ns`: faults are healed after this virtual time, if the operations have not come to an end before; `settle_ns`: how much
      there is then for everything to complete;
    - `checks`: observe every step. Messages are then encoded and decoded too, so that nodes share no object;
    - `timeouts`, `limits`: the configuration; `costs`, `client_costs`: what machines of replicas and clients spend;
    - `links`: delays; or `fabric`: a data-centre network in their place, if it names a topology.
    """

    protocol: str
    service: str = NULL_SERVICE
    replicas: int = 3
    clients: int = 1
    sessions: int = 4
    operations: int = 1_000
    think_ns: int = 0
    faults: tuple[str, ...] = ()
    seed: int = 0
    fault_ns: int = 20_000_000_000
    settle_ns: int = 120_000_000_000
    checks: bool = True
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    links: Links = Links()
    fabric: Fabric = Fabric()
    costs: Costs = Costs()
    client_costs: Costs = Costs()

    def config(self) -> ClusterConfig:
        """The configuration that the nodes see."""
        members = tuple(Member(f"replica-{index}", 1) for index in range(self.replicas))
        return ClusterConfig(members, self.protocol, self.service, timeouts=self.timeouts, limits=self.limits)

    def validate(self) -> SimulationSpec:
        """This specification, if it makes sense. Raises ConfigurationError with the key and what would be right."""
        for name in ("replicas", "clients", "sessions", "operations", "fault_ns", "settle_ns"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{getattr(self, name)} is too small; 1 or more", key=name)
        check_names(self.faults)
        self.config().validate()
        self.fabric.validate()
        for name, value in self._settings():
            if isinstance(value, int | float) and value < 0:
                raise ConfigurationError(f"{value} is too small; 0 or more", key=name)
        for costs in (self.costs, self.client_costs):
            if min(costs.burst, costs.datagram_messages, costs.queue) < 1:
                raise ConfigurationError("burst, datagram_messages and queue are 1 or more", key="costs")
        return self

    def command(self) -> str:
        """The command line that does this run again."""
        default = SimulationSpec(self.protocol)
        words = ["stretto", "simulate", "--protocol", self.protocol]
        for option in ("service", "replicas", "clients", "sessions", "operations"):
            words += [f"--{option}", str(getattr(self, option))]
        if self.faults:
            words += ["--faults", ",".join(self.faults)]
        words += ["--seed", str(self.seed)]
        if not self.checks:
            words.append("--no-checks")
        before = dict(default._settings())
        for name, value in self._settings():
            if value != before[name]:
                words += ["--set", f"{name}={value}"]
        return shlex.join(words)

    def _settings(self) -> list[tuple[str, Any]]:
        """What has no option of its own, with dotted names."""
        settings: list[tuple[str, Any]] = [(name, getattr(self, name)) for name in ("think_ns", "fault_ns", "settle_ns")]
        for table in _TABLES:
            settings += _flat(table, getattr(self, table))
        return settings

    def with_settings(self, settings: dict[str, str]) -> SimulationSpec:
        """The same with some settings changed: dotted name to new value, as `--set` has them. Raises ConfigurationError."""
        known = dict(self._settings())
        tree: dict[str, Any] = msgspec.to_builtins(self)
        for name, text in settings.items():
            if name not in known:
                near = get_close_matches(name, known, n=5, cutoff=0.3) or list(known)[:5]
                raise ConfigurationError(f"there is no such setting; there are {', '.join(near)} and others", key=name)
            *path, last = name.split(".")
            table = tree
            for part in path:
                table = table[part]
            table[last] = text
        try:
            return msgspec.convert(tree, SimulationSpec, strict=False)
        except msgspec.ValidationError as error:
            reason, _, where = str(error).partition(" - at `$")
            raise ConfigurationError(reason, key=where.strip("`.") or None) from None


def _flat(prefix: str, table: Any) -> list[tuple[str, Any]]:
    if not isinstance(table, msgspec.Struct):
        return [(prefix, table)]
    return [pair for name in table.__struct_fields__ for pair in _flat(f"{prefix}.{name}", getattr(table, name))]


def draw_spec(protocol: str, service: str, seed: int, max_replicas: int | None = None) -> SimulationSpec:
    """A specification with everything drawn from the seed: sizes, faults, timeouts, delays, costs."""
    random = Random(f"spec/{seed}")

    def log_uniform(low: float, high: float) -> float:
        return float(low * (high / low) ** random.random())

    sizes = [n for n in (3, 3, 5, 7) if max_replicas is None or n <= max_replicas]
    sessions = round(log_uniform(1, 40))
    # Several client nodes are what makes orders differ.
    clients = random.randint(1, min(4, sessions))
    faults = tuple(name for name in FAULTS if random.random() < 0.35)
    pace = log_uniform(0.05, 1)
    timeouts = {name: round(getattr(Timeouts(), name) * pace * log_uniform(0.5, 2), 3) for name in Timeouts.__struct_fields__}
    limits = Limits()
    if random.random() < 0.3:
        limits = msgspec.structs.replace(limits, max_sessions=random.randint(sessions // 2 + 2, 2 * sessions + 2))
    if random.random() < 0.3:
        limits = msgspec.structs.replace(limits, sync_operations=round(log_uniform(1, 200)), max_held_requests=round(log_uniform(1, 500)))
    if random.random() < 0.3:
        limits = msgspec.structs.replace(limits, max_transfer_bytes=round(log_uniform(64, 100_000)))
    transit = Delay("uniform", round(log_uniform(1_000, 200_000)), round(log_uniform(10, 50_000)))
    skew = Delay(random.choice(("uniform", "exponential", "lognormal")), 0, round(log_uniform(1, 20_000)))
    costs = Costs()
    if random.random() < 0.5:
        datagram, message = round(log_uniform(100, 20_000)), round(log_uniform(100, 10_000))
        costs = Costs(datagram, message, datagram, message, queue=round(log_uniform(16, 4_096)))
    return SimulationSpec(
        protocol,
        service,
        replicas=random.choice(sizes) if sizes else 1,
        clients=clients,
        sessions=sessions,
        operations=round(log_uniform(30, 600)),
        think_ns=0 if random.random() < 0.5 else round(log_uniform(1_000, 5_000_000)),
        faults=faults,
        seed=seed,
        timeouts=Timeouts(**timeouts),
        limits=limits,
        links=Links(transit, skew),
        costs=costs,
    )
