"""The experiments, in the order of the report. A new one is a module with an `EXPERIMENT`, and its name here."""

from __future__ import annotations

from importlib import import_module

from stretto.core.errors import ConfigurationError
from stretto.reproduction.experiment import Experiment

NAMES = ("comparison", "load", "disorder", "adaptive", "messages", "fabric", "testbed", "reconciliation")


def experiment(name: str) -> Experiment:
    """The experiment of that name. Raises ConfigurationError with the names that there are."""
    if name not in NAMES:
        raise ConfigurationError(f"{name!r} is not an experiment; there are {', '.join(NAMES)}", key="--only")
    found: Experiment = import_module(f"{__name__}.{name}").EXPERIMENT
    return found
