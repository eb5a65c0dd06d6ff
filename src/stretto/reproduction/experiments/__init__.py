"""The experiments, in the order of the report. A new experiment is a module with an `EXPERIMENT`, listed in NAMES."""

from __future__ import annotations

from importlib import import_module

from stretto.core.errors import ConfigurationError
from stretto.reproduction.experiment import Experiment

NAMES = ("comparison", "load", "disorder", "adaptive", "messages", "fabric", "testbed", "reconciliation")


def experiment(name: str) -> Experiment:
    """The experiment of that name. Raises ConfigurationError with all names if there is none."""
    if name not in NAMES:
        raise ConfigurationError(f"{name!r} is not an experiment; there are {', '.join(NAMES)}", key="--only")
    found: Experiment = import_module(f"{__name__}.{name}").EXPERIMENT
    return found
