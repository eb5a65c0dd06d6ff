"""The rolling upgrade of the examples: no call fails, none is lost or repeated."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("processes")

ROOT = Path(__file__).parent.parent.parent


def test_no_call_fails_while_the_replicas_get_a_new_release() -> None:
    folder = ROOT / "examples" / "upgrade"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "roll_out.py"], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "NotActive: reserve exists from version 2 on; version 1 is active" in done.stdout
    assert re.search(r"^version 2 is active", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"40 apples are reserved", done.stdout), done.stdout
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"\d{3,} calls, 0 failed, 0 lost, 0 repeated", last), done.stdout
