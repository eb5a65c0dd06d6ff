"""`stretto upgrade`: make a later version of a service active."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import config_option, json_option
from stretto.cli.output import print_json
from stretto.core.errors import StrettoError

if TYPE_CHECKING:
    from stretto.core.config import ClusterConfig
    from stretto.replication.messages import UpgradeReply

_PAUSE_SECONDS = 0.05


@click.command()
@config_option
@click.option("--without", multiple=True, type=click.IntRange(0), metavar="INDEX", help="Go on without this replica; may be repeated.")
@click.option("--timeout", default=60.0, show_default=True, type=click.FloatRange(0, min_open=True), help="How long to wait, in seconds.")
@json_option
def command(config_file: Path, without: tuple[int, ...], timeout: float, as_json: bool) -> int:
    """Make the newest version of the service active that the replicas' code knows.

    The cluster does that by itself when all replicas know it. This command goes on without replicas that are down, or that are to be
    replaced later: with code older than the active version they stop. And it tries an upgrade again that has failed. Exit status 1 if the
    version did not become active.
    """
    from stretto.catalog import protocol_for
    from stretto.core.config import load_config

    config = load_config(config_file)
    protocol_for(config)
    for index in without:
        if index >= config.n:
            raise click.UsageError(f"--without {index}: the replicas are 0 to {config.n - 1}")
    answer = asyncio.run(_ask(config, without, timeout))
    reason = answer.reason or _wait_until_active(
        config, answer.version, [index for index in range(config.n) if index not in without], timeout
    )
    if as_json:
        print_json({"version": answer.version, "active": not reason, "reason": reason or None})
    elif not reason:
        click.echo(f"version {answer.version} is active")
    if reason:
        click.echo(f"stretto: {reason}", err=True)
    return 1 if reason else 0


async def _ask(config: ClusterConfig, without: tuple[int, ...], timeout_s: float) -> UpgradeReply:
    """Ask the leader. Raises StrettoError if there is no answer in time."""
    from stretto.catalog import protocol_for
    from stretto.replication.administration import UpgradeRequest
    from stretto.runtime.host import NodeHost
    from stretto.runtime.sockets import open_client_sockets

    loop = asyncio.get_running_loop()
    answered: asyncio.Future[UpgradeReply] = loop.create_future()
    host = NodeHost(loop, config, protocol_for(config).message_types, open_client_sockets(config), member=None, report=_report)
    try:
        host.start(UpgradeRequest(host, config, without, answered.set_result))
        async with asyncio.timeout(timeout_s):
            return await answered
    except TimeoutError:
        raise StrettoError("no replica that leads has answered; look at the replicas' logs, or at stretto cluster status") from None
    finally:
        host.close()


def _wait_until_active(config: ClusterConfig, version: int, members: list[int], timeout_s: float) -> str:
    """Wait until a majority has executed the change. Returns why the version is not active; empty if it is."""
    from stretto.runtime.metrics import metrics_or_none

    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        known = [metrics for member in members if (metrics := metrics_or_none(config, member)) is not None]
        if sum(metrics.get("version", 0) >= version for metrics in known) > config.n // 2:
            return ""
        if sum(metrics.get("attempted_version", 0) >= version > metrics.get("version", version) for metrics in known) > config.n // 2:
            return f"the service's upgrade to version {version} failed and changed nothing; the replicas' logs say why"
        time.sleep(_PAUSE_SECONDS)
    return f"version {version} is not active after {timeout_s:g} seconds"


def _report(event: str, details: dict[str, Any]) -> None:
    """Nothing: the answer says what happened."""
