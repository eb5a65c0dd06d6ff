"""The file that `stretto calibrate` writes and simulations read: the costs of the runtime on one machine, and how well they fit.

{"format": "stretto costs 1",
 "replica": {"receive_datagram_ns": ..., "receive_message_ns": ..., ...},     see stretto.simulation.world.Costs
 "client": {...},
 "crowding_ns": {"replica": ..., "client": ...},
 "fit": {"replica": {"samples": ..., "rms": ..., "worst": ...}, "client": {...}},
 "measured_on": {...},                                                        see stretto.bench.machine
 "receive_message_ns": {"speculative": {"replica": ..., "client": ...}, ...}}
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from stretto.core.errors import ConfigurationError
from stretto.simulation.spec import SimulationSpec
from stretto.simulation.world import Costs

REPLICA, CLIENT = ROLES = ("replica", "client")


class Fit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How well the costs explain the samples. `rms`, `worst`: the root mean square and the greatest of the relative errors."""

    samples: int
    rms: float
    worst: float


class CostFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of the file.

    `receive_message_ns`: by protocol and role, because protocols do different work for a message; a protocol that is not listed has that
    of `replica` and `client`. `crowding_ns`: by role, the additional cost of a burst where processes share a core, which simulated
    machines never do. `measured_on`: see `stretto.bench.machine.measured_on`.
    """

    replica: Costs
    client: Costs
    crowding_ns: dict[str, int]
    fit: dict[str, Fit]
    measured_on: dict[str, Any]
    receive_message_ns: dict[str, dict[str, int]] = {}
    format: Literal["stretto costs 1"] = "stretto costs 1"

    def of(self, spec: SimulationSpec) -> SimulationSpec:
        """The same run on machines that have these costs."""
        replica, client = (self.costs(role, spec.protocol) for role in ROLES)
        return msgspec.structs.replace(spec, costs=replica, client_costs=client)

    def costs(self, role: str, protocol: str) -> Costs:
        """The costs of a machine of that role with that protocol."""
        general: Costs = getattr(self, role)
        own = self.receive_message_ns.get(protocol, {}).get(role, general.receive_message_ns)
        return msgspec.structs.replace(general, receive_message_ns=own)


def load(file: str | Path) -> CostFile:
    """Read and check a file of costs. Raises ConfigurationError with the file, the key and what is accepted."""
    try:
        text = Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}; make one with: stretto calibrate --out {file}", file=file) from None
    try:
        plain = msgspec.json.decode(text)
        found = msgspec.convert(plain, CostFile)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$")
        raise ConfigurationError(reason, key=where.rstrip("`").lstrip(".") or None, file=file) from None
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"is not JSON: {error}", file=file) from None
    try:
        for role in ROLES:
            _check(role, plain[role], getattr(found, role))
            if found.crowding_ns.get(role, -1) < 0:
                raise ConfigurationError("is missing or negative; nanoseconds, 0 or more", key=f"crowding_ns.{role}")
            for name, own in found.receive_message_ns.items():
                if own.get(role, -1) < 0:
                    raise ConfigurationError("is missing or negative; nanoseconds, 0 or more", key=f"receive_message_ns.{name}.{role}")
    except ConfigurationError as error:
        raise error.in_file(file) from None
    return found


def _check(role: str, given: dict[str, Any], costs: Costs) -> None:
    """In a file no cost has a default, because a forgotten one would count as zero."""
    for name in costs.__struct_fields__:
        least = 0 if name.endswith("_ns") else 1
        if name.endswith("_ns") and name not in given:
            raise ConfigurationError("is missing; nanoseconds, 0 or more", key=f"{role}.{name}")
        if (value := getattr(costs, name)) < least:
            raise ConfigurationError(f"{value} is too small; {least} or more", key=f"{role}.{name}")


def save(costs: CostFile, file: Path) -> None:
    """Write the file, all of it or nothing. Raises ConfigurationError if it cannot be written."""
    unfinished = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(costs), indent=2) + b"\n")
        unfinished.replace(file)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise ConfigurationError(f"cannot be written: {error.strerror}", file=file) from None
