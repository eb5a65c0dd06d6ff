"""The `stretto` command: finds the subcommand's module, and turns errors into one line and an exit status.

Exit status: 0 good; 1 an operation failed or a violation was found; 2 wrong use or configuration; 130 ended by Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from stretto.cli.extras import remedy
from stretto.cli.lazy import LazyGroup
from stretto.cli.output import INTERRUPTED
from stretto.core.errors import ConfigurationError, StrettoError

_COMMANDS = {
    "demo": "Run three replicas under load and kill one; then measure all protocols side by side.",
    "cluster": "Set up, start, watch and end a cluster on this machine.",
    "upgrade": "Make a later version of a service active.",
    "replica": "Run one replica of a cluster.",
    "sequencer": "Run one sequencer, for a protocol that has them.",
    "log": "Look at the data that a replica keeps on disk.",
    "kv": "Read and change a replicated key-value store.",
    "bench": "Measure throughput and latency of real processes.",
    "calibrate": "Measure what the runtime spends on this machine, for simulations.",
    "compare": "Compare results of bench with each other.",
    "reproduce": "Run the experiments of the papers, and write a report of what was reproduced.",
    "simulate": "Run a cluster in virtual time, with faults, from a seed.",
    "network": "Multicast through a data-centre network: topologies, rules, how much order they give.",
    "testbed": "Real switches and hosts on this machine: Open vSwitch in network namespaces.",
    "torture": "Kill, pause and cut off real processes under load, and check what clients saw.",
    "verify": "Check recorded histories for linearizability.",
    "fuzz": "Simulate many random fault mixes and look for violations.",
    "explore": "Search small worlds through every order of what may happen.",
    "mutants": "Plant bugs in copies of the package, and see whether they are found.",
}
"""Every command with its summary."""


@click.group(cls=LazyGroup, package="stretto.cli", summaries=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stretto", message="%(prog)s %(version)s")
def stretto() -> None:
    """Replicates a Python state machine at the speed of the data-centre network."""


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status. Errors of Stretto and of usage become one line on stderr."""
    try:
        status: Any = stretto.main(arguments, prog_name="stretto", standalone_mode=False)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "stretto"
        return _fail(f"{path}: {_reason(error)} (see {path} --help)", 2)
    except click.ClickException as error:
        return _fail(f"stretto: {error.format_message()}", error.exit_code)
    except click.Abort:
        return INTERRUPTED
    except ConfigurationError as error:
        return _fail(f"stretto: {error}", 2)
    except StrettoError as error:
        return _fail(f"stretto: {error}", 1)
    except ModuleNotFoundError as error:
        if (line := remedy(error)) is None:
            raise
        return _fail(f"stretto: {line}", 2)
    except OSError as error:  # such as a full disk: the system says no, and the command has no better words for it
        place = "" if error.filename is None else f"{error.filename}: "
        return _fail(f"stretto: {place}{error.strerror or error}", 1)
    return status if isinstance(status, int) else 0


def main() -> None:
    """What the installed script calls."""
    # A service of one's own is found in the directory where the command is run, as with `python -m`.
    sys.path.append(os.getcwd())
    sys.exit(run(sys.argv[1:]))


def _reason(error: click.UsageError) -> str:
    """What is wrong, in a line. For a group without a command click would say the whole help."""
    group = None if error.ctx is None else error.ctx.command
    if error.ctx is None or not isinstance(group, click.Group) or error.message != error.ctx.get_help():
        return error.format_message()
    return f"Missing command, one of {', '.join(group.list_commands(error.ctx))}."


def _fail(line: str, status: int) -> int:
    click.echo(" ".join(line.split()), err=True)
    return status
