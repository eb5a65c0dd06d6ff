"""`stretto kv`: the key-value store from the shell."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from stretto.cli.options import config_option, json_option
from stretto.cli.output import print_json
from stretto.core.errors import ConfigurationError

INTEGER = click.IntRange(-(1 << 63), (1 << 63) - 1)
"""What a call can carry."""

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def command() -> None:
    """Read and change a replicated key-value store.

    Keys and values are text, or with --hex any bytes. Put -- before a key or value that begins with a dash. Exit status 1 if
    there is no such key, if it does not have the expected value, or if the call failed.
    """


class Store:
    """The store of a configured cluster, and how keys and values are read and printed."""

    def __init__(self, config_file: Path, as_hex: bool, as_json: bool) -> None:
        self._config_file = config_file
        self._as_hex = as_hex
        self._as_json = as_json

    def encode(self, text: str) -> bytes:
        """A key or a value as it was given."""
        if not self._as_hex:
            return os.fsencode(text)
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise click.UsageError(f"{text!r} is not hexadecimal") from None

    def decode(self, data: bytes) -> str:
        """A key or a value as it is printed."""
        return data.hex() if self._as_hex else data.decode("utf-8", "backslashreplace")

    def call(self, name: str, *arguments: Any) -> Any:
        """Call this method of the KeyValueStore. Raises StrettoError if it fails."""
        from stretto import connect
        from stretto.apps.kv import KeyValueStore
        from stretto.catalog import service_class
        from stretto.core.config import load_config

        config = load_config(self._config_file)
        if not issubclass(service_class(config.service), KeyValueStore):
            raise ConfigurationError(f"{config.service} is not a key-value store", key="service", file=self._config_file)
        with connect(config) as cluster:
            return cluster.call(getattr(KeyValueStore, name), *arguments)

    def show(self, result: Any, line: str | None) -> None:
        """Print a result, for programs or for people."""
        if self._as_json:
            print_json({"result": result})
        elif line is not None:
            click.echo(line)

    def fail(self, result: Any, reason: str) -> int:
        """Print a result that is a failure. Returns the exit status."""
        self.show(result, None)
        click.echo(f"stretto: {reason}", err=True)
        return 1


def _options(function: Command) -> Command:
    """The options of every command here; the command gets a `store`."""

    def with_store(config_file: Path, as_hex: bool, as_json: bool, **arguments: Any) -> Any:
        return function(Store(config_file, as_hex, as_json), **arguments)

    with_store.__doc__ = function.__doc__
    with_store.__name__ = function.__name__
    hex_option = click.option("--hex", "as_hex", is_flag=True, help="Keys and values are in hexadecimal.")
    return config_option(hex_option(json_option(with_store)))  # type: ignore[return-value]


@command.command()
@click.argument("key")
@_options
def get(store: Store, key: str) -> int:
    """Print the value of KEY."""
    value = store.call("get", store.encode(key))
    if value is None:
        return store.fail(None, f"{key!r} has no value")
    store.show(store.decode(value), store.decode(value))
    return 0


@command.command()
@click.argument("key")
@click.argument("value")
@_options
def put(store: Store, key: str, value: str) -> None:
    """Set the value of KEY."""
    store.call("put", store.encode(key), store.encode(value))
    store.show(None, None)


@command.command()
@click.argument("key")
@_options
def delete(store: Store, key: str) -> int:
    """Remove KEY."""
    if not store.call("delete", store.encode(key)):
        return store.fail(False, f"{key!r} had no value")
    store.show(True, None)
    return 0


@command.command()
@click.argument("key")
@click.argument("value")
@_options
def append(store: Store, key: str, value: str) -> None:
    """Add VALUE to the end of what KEY has; prints the new length in bytes."""
    length = store.call("append", store.encode(key), store.encode(value))
    store.show(length, str(length))


@command.command()
@click.argument("key")
@click.argument("values", nargs=-1, required=True, metavar="EXPECTED VALUE")
@click.option("--absent", is_flag=True, help="KEY must have no value; EXPECTED is left out.")
@_options
def cas(store: Store, key: str, values: tuple[str, ...], absent: bool) -> int:
    """Set the value of KEY to VALUE if it is EXPECTED now."""
    if len(values) != (1 if absent else 2):
        raise click.UsageError("give KEY VALUE with --absent" if absent else "give KEY EXPECTED VALUE, or KEY VALUE with --absent")
    expected = None if absent else store.encode(values[0])
    if not store.call("compare_and_set", store.encode(key), expected, store.encode(values[-1])):
        return store.fail(False, f"{key!r} has a value; nothing changed" if absent else f"{key!r} is not {values[0]!r}; nothing changed")
    store.show(True, None)
    return 0


@command.command(context_settings={"ignore_unknown_options": True})
@click.argument("key")
@click.argument("amount", type=INTEGER, default=1)
@_options
def incr(store: Store, key: str, amount: int) -> None:
    """Add AMOUNT, or 1, to the decimal number that KEY has; prints the new number."""
    number = store.call("increment", store.encode(key), amount)
    store.show(number, str(number))


@command.command()
@click.argument("prefix", default="")
@click.option("--limit", type=INTEGER, default=100, show_default=True, help="Print at most this many.")
@_options
def scan(store: Store, prefix: str, limit: int) -> None:
    """Print the keys that begin with PREFIX, in order, each with a tab and its value."""
    items = [(store.decode(key), store.decode(value)) for key, value in store.call("scan", store.encode(prefix), limit)]
    store.show(items, "\n".join(f"{key}\t{value}" for key, value in items) or None)
