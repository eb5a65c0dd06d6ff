"""The specification of a run as plain data, which can be stored and printed as a command line."""

from __future__ import annotations

import shlex
from difflib import get_close_matches
from math import isfinite
from typing import Any, Literal

import msgspec

from stretto.core.config import ClusterConfig, Limits, Member, Timeouts
from stretto.core.errors import ConfigurationError
from stretto.simulation.disk import DiskTimes
from stretto.simulation.fabric import Fabric
from stretto.simulation.faults import check_names
from stretto.simulation.faults.base import Strength
from stretto.simulation.network import Links
from stretto.simulation.world import Costs

NULL_SERVICE = "stretto.core.state_machine:NullMachine"
_SINGLE = ("keys", "think_ns", "dead", "slow_ns", "fault_ns", "settle_ns")
_TABLES = ("timeouts", "limits", "links", "fabric", "costs", "client_costs", "sequencer_costs", "disk")


class SimulationSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run: the nodes, the load, the faults, and the seed that decides everything else.

    - `protocol`, `service`: names, as in a cluster's configuration;
    - `replicas`, `clients`: how many nodes of each; `sessions`: how many calls are outstanding, over all clients;
    - `operations`: how many calls are made in all; `keys`: how many different keys they use, if the service has keys; `think_ns`: the mean
      time between a return and the next call of that session;
    - `durability`: as in a cluster's configuration; with "disk", each replica has a disk, which faults can strike too;
    - `dead`: how many replicas, the last ones, stop for good when all have come into service; `slow_ns`: additional time for each burst of
      the last of the others;
    - `sequencers`: how many nodes number the requests, for a protocol that has sequencers;
    - `faults`: names from `stretto.simulation.faults.FAULTS`; `strengths`: their strengths, if not the usual ones;
    - `fault_ns`: faults are healed after this virtual time, or when the operations have ended; `settle_ns`: the virtual time in which
      every call must then complete;
    - `checks`: observe every step. Messages are then encoded and decoded too, so that nodes share no object;
    - `timeouts`, `limits`: the configuration; `costs`, `client_costs`, `sequencer_costs`: the costs of replicas, clients and sequencers;
    - `disk`: the times of a replica's disk, if it has one;
    - `links`: delays, loss and reordering; or `fabric`: a data-centre network instead of the delays, if it names a topology.
    """

    protocol: str
    service: str = NULL_SERVICE
    replicas: int = 3
    clients: int = 1
    sessions: int = 4
    operations: int = 1_000
    keys: int = 1_000
    think_ns: int = 0
    durability: Literal["memory", "disk"] = "memory"
    dead: int = 0
    slow_ns: int = 0
    sequencers: int = 0
    faults: tuple[str, ...] = ()
    strengths: dict[str, Strength] = {}
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
    sequencer_costs: Costs = Costs()
    disk: DiskTimes = DiskTimes()

    def config(self) -> ClusterConfig:
        """The configuration that the nodes see."""
        members = tuple(Member(f"replica-{index}", 1) for index in range(self.replicas))
        sequencers = tuple(Member(f"sequencer-{index}", 1) for index in range(self.sequencers))
        shared = (self.protocol, self.service, self.durability)
        return ClusterConfig(members, *shared, sequencers=sequencers, timeouts=self.timeouts, limits=self.limits)

    def strength_of(self, fault: str) -> Strength:
        """The strength of a fault."""
        return self.strengths.get(fault, Strength())

    def validate(self) -> SimulationSpec:
        """Check this specification and return it. Raises ConfigurationError with the key and what would be right."""
        for name, value in self._settings():
            if isinstance(value, float) and not isfinite(value):
                raise ConfigurationError(f"{value} is not a finite number", key=name)
        for name in ("replicas", "clients", "sessions", "operations", "keys", "fault_ns", "settle_ns"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{getattr(self, name)} is too small; 1 or more", key=name)
        if not 0 <= self.dead <= (self.replicas - 1) // 2:
            reason = f"{self.dead} of {self.replicas} replicas are not a minority; 0 to {(self.replicas - 1) // 2}"
            raise ConfigurationError(reason, key="dead")
        if self.sequencers < 0:
            raise ConfigurationError(f"{self.sequencers} is too small; 0 or more", key="sequencers")
        check_names(self.faults, self.durability, self.sequencers)
        for name in self.strengths:
            if name not in self.faults:
                raise ConfigurationError(f"{name!r} is not among the faults of this run", key="strengths")
            if not 0 <= self.strengths[name].severity <= 1:
                raise ConfigurationError(f"{self.strengths[name].severity} is outside 0 to 1", key=f"strengths.{name}.severity")
            if min(self.strengths[name].frequency, self.strengths[name].duration) <= 0:
                raise ConfigurationError("frequency and duration are more than 0", key=f"strengths.{name}")
        self.config().validate()
        self.fabric.validate()
        self.links.validate()
        for name, value in self._settings():
            if isinstance(value, int | float) and value < 0:
                raise ConfigurationError(f"{value} is too small; 0 or more", key=name)
        for costs in (self.costs, self.client_costs, self.sequencer_costs):
            if min(costs.burst, costs.datagram_messages, costs.queue) < 1:
                raise ConfigurationError("burst, datagram_messages and queue are 1 or more", key="costs")
        return self

    def command(self) -> str:
        """The command line that repeats this run."""
        words = ["stretto", "simulate", "--protocol", self.protocol]
        for option in ("service", "replicas", "clients", "sessions", "operations"):
            words += [f"--{option}", str(getattr(self, option))]
        if self.sequencers:
            words += ["--sequencers", str(self.sequencers)]
        if self.faults:
            words += ["--faults", ",".join(self.faults)]
        if self.durability != "memory":
            words += ["--durability", self.durability]
        words += ["--seed", str(self.seed)]
        if not self.checks:
            words.append("--no-checks")
        before = dict(SimulationSpec(self.protocol, faults=self.faults)._settings())
        for name, value in self._settings():
            if value != before[name]:
                words += ["--set", f"{name}={value}"]
        return shlex.join(words)

    def _settings(self) -> list[tuple[str, Any]]:
        """The settings without an option of their own, with dotted names."""
        settings: list[tuple[str, Any]] = [(name, getattr(self, name)) for name in _SINGLE]
        for table in _TABLES:
            settings += _flat(table, getattr(self, table))
        for fault in self.faults:
            settings += _flat(f"strengths.{fault}", self.strength_of(fault))
        return settings

    def with_settings(self, settings: dict[str, str]) -> SimulationSpec:
        """A copy with some settings changed: dotted name to new value, as with `--set`. Raises ConfigurationError."""
        known = dict(self._settings())
        tree: dict[str, Any] = msgspec.to_builtins(self)
        for name, text in settings.items():
            if name not in known:
                near = get_close_matches(name, known, n=5, cutoff=0.3) or list(known)[:5]
                raise ConfigurationError(f"there is no such setting; there are {', '.join(near)} and others", key=name)
            *path, last = name.split(".")
            table = tree
            for part in path:
                table = table.setdefault(part, {})
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
