"""`stretto replica`: one replica of a cluster, in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from stretto.cli.options import config_option
from stretto.core.errors import ConfigurationError


@click.command()
@config_option
@click.option("--index", type=int, required=True, help="Which of the configuration's replicas this is, from 0.")
@click.option("--bootstrap", is_flag=True, help="Say that the whole cluster starts anew, so that an empty log is right.")
@click.option("--log", "log", type=click.Path(path_type=Path), help="Append the log to this file.  [default: standard error]")
def command(config_file: Path, index: int, bootstrap: bool, log: Path | None) -> None:
    """Run one replica of a cluster, until SIGTERM or Ctrl-C.

    Replicas keep their state in memory. One that has ended cannot come back yet: without --bootstrap it refuses to start, since with an
    empty log it would have forgotten what it promised; with --bootstrap all replicas must start anew together.
    """
    from stretto.catalog import protocol_for, service
    from stretto.core.config import load
    from stretto.runtime.replica import run_replica

    config = load(config_file)
    if not 0 <= index < config.n:
        raise ConfigurationError(f"there is no replica {index}; the indices are 0 to {config.n - 1}", key="--index", file=config_file)
    try:
        definition = protocol_for(config)
        run_replica(definition, config, index, service(config.service), bootstrap=bootstrap, log=log)
    except ConfigurationError as error:
        raise error if error.file or not error.key else error.in_file(config_file) from None
