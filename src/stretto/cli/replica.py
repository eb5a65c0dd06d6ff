"""`stretto replica`: one replica of a cluster, in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from stretto.cli.options import config_option
from stretto.core.errors import ConfigurationError


@click.command()
@config_option
@click.option("--index", type=int, required=True, help="Which of the configuration's replicas this is, from 0.")
@click.option("--bootstrap", is_flag=True, help="The whole cluster starts for the first time, so an empty log is correct.")
@click.option("--data", type=click.Path(path_type=Path), help='The directory for its data, or with durability "memory" for its identity.')
@click.option("--repair", is_flag=True, help="If its data is damaged, move it aside, and recover from the other replicas.")
@click.option("--log", "log", type=click.Path(path_type=Path), help="Append the log to this file.  [default: standard error]")
def command(config_file: Path, index: int, bootstrap: bool, data: Path | None, repair: bool, log: Path | None) -> None:
    """Run one replica of a cluster, until SIGTERM or Ctrl-C.

    With --bootstrap all replicas start together for the first time, and serve when all of them have started. Without it, this replica
    restarts from its data, or, if it has none, recovers from a majority of the others. With --data, --bootstrap counts only once: one start
    line serves for ever.
    """
    from stretto.catalog import protocol_for, service
    from stretto.core.config import load_config
    from stretto.runtime.replica import run_replica

    config = load_config(config_file)
    if not 0 <= index < config.n:
        raise ConfigurationError(f"there is no replica {index}; the indices are 0 to {config.n - 1}", key="--index", file=config_file)
    if bootstrap and repair:
        raise ConfigurationError("a replica that starts for the first time has nothing to repair; leave it out", key="--repair")
    try:
        definition = protocol_for(config)
        machine = service(config.service)
        run_replica(definition, config, index, machine, bootstrap=bootstrap, data=data, repair=repair, log=log)
    except ConfigurationError as error:
        raise error if error.file or not error.key else error.in_file(config_file) from None
