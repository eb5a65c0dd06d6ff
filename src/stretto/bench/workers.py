"""Independent tasks on several processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

from stretto.core.errors import StrettoError

Item = TypeVar("Item")
Result = TypeVar("Result")


def work_off(function: Callable[[Item], Result], items: Iterable[Item], workers: int, dask: str | None = None) -> Iterator[Result]:
    """The results of `function` for all items, in the order of the items, each as soon as it and all before it are done.

    The work is done by `workers` local processes (1: in this process), or by the Dask cluster whose scheduler is at the address `dask`.
    Raises StrettoError if the extra `dask` is not installed, or if no scheduler answers.
    """
    return _worked_off(function, list(items), workers, dask, ordered=True)


def work_off_in_any_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, dask: str | None = None
) -> Iterator[tuple[int, Result]]:
    """As `work_off`, but each result as soon as it is done, with the position of its item."""
    return _worked_off(partial(_numbered, function), list(enumerate(items)), workers, dask, ordered=False)


def _numbered(function: Callable[[Item], Result], item: tuple[int, Item]) -> tuple[int, Result]:
    return item[0], function(item[1])


def _worked_off(function: Callable[[Any], Any], items: list[Any], workers: int, dask: str | None, *, ordered: bool) -> Iterator[Any]:
    if dask is not None:
        yield from _on_dask(function, items, dask, ordered)
    elif workers == 1:
        yield from map(function, items)
    else:
        # Leaving the block ends the workers, also after Ctrl-C.
        with multiprocessing.get_context("spawn").Pool(workers, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
            yield from (pool.imap if ordered else pool.imap_unordered)(function, items)


def _on_dask(function: Callable[[Any], Any], items: list[Any], address: str, ordered: bool) -> Iterator[Any]:
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise StrettoError("a Dask cluster needs the package 'distributed': pip install 'stretto[dask]'") from None
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError, TimeoutError) as error:
        raise StrettoError(f"no Dask scheduler answers at {address!r}: {error}") from None
    with client:
        futures = client.map(function, items, pure=False)
        try:
            for future in futures if ordered else as_completed(futures):
                yield future.result()
        finally:
            client.cancel(futures)
