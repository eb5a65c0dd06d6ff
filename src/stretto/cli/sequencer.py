"""`stretto sequencer`: one sequencer of a cluster, in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from stretto.cli.options import config_option
from stretto.core.errors import ConfigurationError


@click.command()
@config_option
@click.option("--index", type=int, required=True, help="Which of the configuration's sequencers this is, from 0.")
@click.option("--log", "log", type=click.Path(path_type=Path), help="Append the log to this file.  [default: standard error]")
def command(config_file: Path, index: int, log: Path | None) -> None:
    """Run one sequencer of a cluster, until SIGTERM or Ctrl-C.

    It keeps nothing on disk. The replicas contact a restarted sequencer when they need it.
    """
    from stretto.catalog import protocol_for
    from stretto.core.config import load_config
    from stretto.runtime.replica import run_sequencer

    config = load_config(config_file)
    count = len(config.sequencers)
    if not 0 <= index < count:
        reason = f"there is no sequencer {index}; " + (f"the indices are 0 to {count - 1}" if count else f"{config.protocol} has none")
        raise ConfigurationError(reason, key="--index", file=config_file)
    try:
        run_sequencer(protocol_for(config), config, index, log=log)
    except ConfigurationError as error:
        raise error if error.file or not error.key else error.in_file(config_file) from None
