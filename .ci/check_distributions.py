"""Build the sdist and the wheel, install each into an environment of its own, and use it from an empty directory. Run by `make dist-check`.

The wheel is built from the sdist, with a C compiler; the sdist is installed as on a machine that has none. Neither is given an extra.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
OF_THE_ENVIRONMENT = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
SERVICE = """
from stretto import Cell, Service, operation
from stretto.runtime import batching
from stretto.testing import local

class Counter(Service):
    def __init__(self) -> None:
        self.value = Cell[int](0)

    @operation
    def add(self, amount: int) -> int:
        self.value.value += amount
        return self.value.value

counter = local(Counter)
counter.add(2)
assert counter.add(3) == 5
assert batching.BATCHED is {batched}, "batched socket calls: expected {batched}"
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """The command's standard output. If the command fails, this program ends and shows its whole output."""
    result = subprocess.run([*map(str, command)], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with status {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def check(distribution: Path, where: Path, *, batched: bool, **environment: str) -> None:
    """Install a distribution below `where` and use it. `batched`: whether the C extension must be there."""
    began = time.monotonic()
    empty = where / "empty"
    empty.mkdir(parents=True)
    venv.create(where / "venv", with_pip=True)
    binaries = where / "venv" / "bin"
    run(binaries / "pip", "install", "--quiet", distribution, cwd=empty, **environment)
    assert "Commands:" in run(binaries / "stretto", "--help", cwd=empty)
    version = run(binaries / "stretto", "--version", cwd=empty).strip()
    (empty / "counter.py").write_text(SERVICE.format(batched=batched))
    run(binaries / "python", "counter.py", cwd=empty)
    packages = [path for path in where.glob("venv/lib/python*/site-packages/*") if not path.name.startswith(OF_THE_ENVIRONMENT)]
    sizes = [path.stat().st_size for package in packages for path in package.rglob("*") if path.is_file()]
    form = "with" if batched else "without"
    seconds = time.monotonic() - began
    print(f"{distribution.name}: {version} works {form} the C extension; {sum(sizes) / 1e6:.0f} MB with its dependencies; {seconds:.0f} s")


def main() -> None:
    """Check all of it; the exit status is 0 if everything works."""
    with tempfile.TemporaryDirectory(prefix="stretto-distributions-") as folder:
        there = Path(folder)
        run(sys.executable, "-m", "build", "--outdir", there, ROOT, cwd=there)
        (sdist,), (wheel,) = there.glob("*.tar.gz"), there.glob("*.whl")
        check(wheel, there / "wheel", batched=True)
        # pip's cache may hold a wheel of this sdist that was built with the compiler.
        check(sdist, there / "sdist", batched=False, CC="false", PIP_NO_CACHE_DIR="1")


if __name__ == "__main__":
    main()
