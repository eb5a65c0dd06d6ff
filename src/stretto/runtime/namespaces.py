"""Named network namespaces, as ip(8) keeps them: make and delete them, enter one, run commands in one."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from stretto.core.errors import StrettoError

WHERE = Path("/run/netns")
"""The directory in which ip(8) keeps named namespaces."""
_CLONE_NEWNET = 0x40000000


class NoNetwork(StrettoError):
    """The machine does not allow such a network. The message says what is missing."""


def require(tools: Mapping[str, str]) -> None:
    """Raise NoNetwork unless the user is root and the commands are installed. `tools` maps each command to its Debian package."""
    if os.geteuid() != 0:
        raise NoNetwork("network namespaces need root")
    for tool, package in tools.items():
        if shutil.which(tool) is None:
            raise NoNetwork(f"the command {tool} is not installed (Debian has it in {package})")


def make(names: Iterable[str]) -> None:
    """Make namespaces. Raises NoNetwork at the first that cannot be made or already exists."""
    run("ip", "-batch", "-", text="".join(f"netns add {name}\n" for name in names))


def delete(names: Iterable[str]) -> None:
    """Delete the namespaces that exist, and the links in them."""
    if existing := [name for name in names if exists(name)]:
        run("ip", "-batch", "-", text="".join(f"netns delete {name}\n" for name in existing))


def exists(name: str) -> bool:
    """Whether the namespace exists."""
    return (WHERE / name).exists()


def command(name: str) -> tuple[str, ...]:
    """The prefix that makes a command run in the namespace. The process id stays that of the started process."""
    return ("ip", "netns", "exec", name)


def configure(name: str, lines: Iterable[str]) -> None:
    """Run commands of ip(8) in the namespace, such as "link set eth0 up". Raises NoNetwork at the first that fails."""
    run("ip", "-n", name, "-batch", "-", text="\n".join(lines))


@contextmanager
def entered(name: str) -> Iterator[None]:
    """Move this thread, and the threads and processes that it starts, to the namespace. Raises NoNetwork if it does not exist."""
    try:
        target = (WHERE / name).open("rb")
    except FileNotFoundError:
        raise NoNetwork(f"there is no network namespace {name}") from None
    with target, open("/proc/thread-self/ns/net", "rb") as home:
        _set_namespace(target.fileno())
        try:
            yield
        finally:
            _set_namespace(home.fileno())


def run(*command: str, text: str | None = None) -> str:
    """Run a command with `text` as its input. Returns its output. Raises NoNetwork with the first line of its error output if it fails."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoNetwork(f"{' '.join(command)} failed: {(done.stderr.strip().splitlines() or ['no reason given'])[0]}")
    return done.stdout


def _set_namespace(descriptor: int) -> None:
    """setns(2), which the os module of Python 3.11 does not have."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns failed")
