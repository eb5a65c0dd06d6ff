"""Which run comes next: those of the corpus first, then new ones drawn from consecutive seeds, and neighbours of interesting runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from random import Random

from stretto.core.protocol import ProtocolDefinition
from stretto.fuzzing.swarm import Fixed, cross, draw_spec
from stretto.simulation.spec import SimulationSpec


class Plan:
    """The sequence of runs.

    Parameters:

    - `protocols`: used in turn, one per seed; `service`: the name of the service to replicate;
    - `seed`: of the first drawn run; the seeds of the others follow it;
    - `runs`: how many runs in all, None for no limit; `operations`: no run comes after those that have this many calls together;
    - `corpus`: the runs that come first; None if no corpus is kept, and then no neighbours are tried;
    - `fixed`: what is not drawn.

    `interesting`: the runs whose neighbours are tried; the caller adds to them.
    """

    def __init__(
        self,
        protocols: Sequence[ProtocolDefinition],
        service: str,
        seed: int,
        runs: int | None,
        operations: int | None,
        corpus: Sequence[SimulationSpec] | None,
        fixed: Fixed,
    ) -> None:
        self.interesting = list(corpus or ())
        self._repeats = list(corpus or ())
        self._runs_left = runs
        self._operations_left = operations
        self._crosses = corpus is not None
        self._seeds = count(seed)
        self._random = Random(seed)
        self._protocols = list(protocols)
        self._service = service
        self._fixed = fixed

    def next(self) -> SimulationSpec | None:
        """The next run; None after the last."""
        if self._runs_left == 0 or (self._operations_left is not None and self._operations_left <= 0):
            return None
        spec = self._repeats.pop(0) if self._repeats else self._draw()
        if self._runs_left is not None:
            self._runs_left -= 1
        if self._operations_left is not None:
            self._operations_left -= spec.operations
        return spec

    def _draw(self) -> SimulationSpec:
        seed = next(self._seeds)
        protocol = self._protocols[seed % len(self._protocols)]
        spec = draw_spec(protocol.name, self._service, seed, protocol.max_replicas, self._fixed, protocol.usual_sequencers)
        if self._crosses and self._random.random() < 0.5:
            near = [other for other in self.interesting if other.protocol == protocol.name]
            return cross(self._random.choice(near), spec, self._random) if near else spec
        return spec
