"""The examples of docs/services.md work as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

GUIDE = Path(__file__).parent.parent / "docs" / "services.md"
SOURCE = Path(__file__).parent.parent / "src"
EXAMPLE = re.compile(r"```python\n# (\w+\.py)\n(.*?)```", re.DOTALL)

WITHOUT_SOCKETS = """
from stretto.testing import local
import stretto

class Cluster:
    def __enter__(self): return self
    def __exit__(self, *exception): pass
    def service(self, service): return local(service)

stretto.connect = lambda config: Cluster()
import bid
"""
"""The client's example without sockets; what `connect` itself does is tested elsewhere."""


def test_the_examples_work(tmp_path: Path) -> None:
    files = dict(EXAMPLE.findall(GUIDE.read_text(encoding="utf-8")))
    assert sorted(files) == ["auction.py", "bid.py", "test_auction.py"]
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_auction.py", expect="2 passed")
    run(tmp_path, "-c", WITHOUT_SOCKETS, expect="1 Bid(bidder='Ada', amount=10)")


def run(folder: Path, *arguments: str, expect: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert expect in done.stdout
