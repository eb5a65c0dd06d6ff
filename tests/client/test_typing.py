"""What type checkers know of calls. The functions below are read by mypy and never run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import assert_type

import pytest

import stretto
from stretto.apps.kv import KeyValueStore

ROOT = Path(__file__).parents[2]


def calls_wait(cluster: stretto.Cluster) -> None:
    store = cluster.service(KeyValueStore)
    assert_type(store.get(b"key"), bytes | None)
    store.get(7)  # type: ignore[arg-type]
    assert_type(cluster.call(KeyValueStore.get, b"key"), bytes | None)
    cluster.call(KeyValueStore.get, 7)  # type: ignore[arg-type]
    cluster.service(int)  # type: ignore[type-var]


async def calls_are_awaited(cluster: stretto.AsyncCluster) -> None:
    store = cluster.service(KeyValueStore)
    assert_type(store, stretto.AsyncService)
    await store.put(b"key", b"value")
    store.put(b"key", b"value")  # type: ignore[unused-coroutine]
    assert_type(await cluster.call(KeyValueStore.get, b"key"), bytes | None)
    await cluster.call(KeyValueStore.get, 7)  # type: ignore[arg-type]
    cluster.call(KeyValueStore.get, b"key")  # type: ignore[unused-coroutine]
    cluster.service(int)  # type: ignore[arg-type]


def test_mypy_agrees(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    options = ["--strict", "--no-error-summary", "--cache-dir", str(tmp_path), "--follow-imports", "silent"]
    done = subprocess.run([sys.executable, "-m", "mypy", *options, __file__], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr
