"""Options of several commands of `stretto testbed`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from stretto.cli.options import together

if TYPE_CHECKING:
    from stretto.bench.measure import Progress
    from stretto.testbed.commands import ControllerClient
    from stretto.testbed.fabric import Fabric

name_option = click.option("--name", default="testbed", show_default=True, help="The testbed's name, if there are several.")
"""`name`."""

element_argument = click.argument("element", metavar="ELEMENT")
"""`element`: a switch, such as root0, or a link, such as root0-p0a0."""

testbed_options = together(
    click.option("--name", default="testbed", show_default=True, help="The testbed. If it is not up, it is brought up for this run only."),
    click.option(
        "--topology", help="Its topology if it has to be brought up, named as in `stretto network`.  [default: testbed(pod_gbps=1)]"
    ),
    click.option("--scale", type=float, help="The factor on the rates of all links if it has to be brought up.  [default: 0.02]"),
)
"""`name`, `topology` and `scale`, for `ready`."""


@contextmanager
def ready(name: str, topology: str | None, scale: float | None) -> Iterator[tuple[Fabric, ControllerClient, Progress]]:
    """The testbed of that name, brought up if it is not, and a line that shows progress. SIGTERM and SIGHUP end it as Ctrl-C does."""
    from stretto.cli.interrupts import ended_by_signals
    from stretto.cli.output import progress_line
    from stretto.testbed.session import running

    with ended_by_signals(), progress_line() as progress, running(name, topology, scale, lambda what: progress(what, None)) as testbed:
        yield *testbed, progress


def controller_of(name: str) -> tuple[Fabric, ControllerClient]:
    """The testbed of that name, and what talks to its controller."""
    from stretto.testbed.commands import ControllerClient
    from stretto.testbed.fabric import Fabric

    fabric = Fabric.existing(name)
    return fabric, ControllerClient(fabric.plan.controller_socket)
