"""Who may import whom, and what the pure packages may not touch: read from the source, wherever an import stands."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path

import pytest

from stretto.catalog import protocol, protocol_names

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

ANYTHING = None
MAY_IMPORT: dict[str, set[str] | None] = {
    "core": set(),
    "services": {"core"},
    "replication": {"core"},
    "network": {"core"},
    "apps": {"core", "services"},
    "verify": {"core"},
    "protocols": {"core", "replication"},
    "storage": {"core"},
    "simulation": {"core", "network", "storage", "verify"},
    "exploration": {"core", "storage", "verify"},
    "fuzzing": {"core", "simulation", "verify"},
    "runtime": {"core", "storage"},
    "client": {"core", "services", "runtime"},
    "testbed": {"core", "network", "runtime"},
    "torture": {"core", "runtime", "client", "verify"},
    "demo": {"", "apps", "core", "runtime"},
    "testing": {"core", "services"},
    "catalog": {"core", "services", "protocols", "apps", "verify"},
    "": {"core", "services", "client", "catalog"},  # stretto/__init__.py, which offers what users need
    "__main__": {"cli"},
    "bench": {"core", "services", "apps", "network", "verify", "runtime", "simulation", "testbed", "catalog"},
    "calibration": {"core", "replication", "protocols", "runtime", "simulation", "catalog", "bench"},
    "reproduction": {"core", "network", "simulation", "testbed", "catalog", "bench", "calibration"},
    "mutants": ANYTHING,
    "cli": ANYTHING,
}
PURE = {"core", "services", "replication", "protocols", "apps", "network", "storage", "verify", "simulation", "exploration"}
OUTSIDE_THE_RULES = {"stretto.services.threads"}
"""Modules of pure packages that use what is forbidden there, so that nothing else has to: their docstrings say why."""
CORE_DEPENDENCIES = {"msgspec"}

IMPURE_MODULES = {
    *("time", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"),
    *("socket", "socketserver", "select", "selectors", "ssl", "http", "urllib", "signal", "subprocess", "multiprocessing"),
    *("threading", "_thread", "concurrent", "queue", "asyncio", "contextvars", "sched"),
    *("secrets", "uuid", "os.urandom", "os.getrandom", "os.times", "os.fork", "random", "numpy.random"),
    *("importlib", "runpy"),  # an import that this test could not read
}
"""Modules, or single names of modules, whose use a pure package may not make; everything below them is meant too."""
SEEDED = {"random.Random"} | {
    f"numpy.random.{name}" for name in ("default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64", "PCG64DXSM", "Philox", "SFC64")
}
"""What is fine below an impure module, if it is given a seed."""
NEEDS_SEED: Container[str | None] = {
    "random.Random",
    "numpy.random.default_rng",
    "numpy.random.SeedSequence",
    "numpy.random.PCG64",
    "numpy.random.Philox",
}


class Module:
    """One parsed source file: its dotted name, what it imports, and which imported names it uses."""

    def __init__(self, name: str, source: str, is_package: bool = False) -> None:
        self.name = name
        self.tree = ast.parse(source)
        self._package = name if is_package else name.rpartition(".")[0]
        self._aliases: dict[str, str] = {}
        self.imports: list[tuple[int, str]] = []
        """Line and full dotted name of everything imported, at whatever depth it stands."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.imports.append((node.lineno, alias.name))
                    bound = alias.name if alias.asname else alias.name.partition(".")[0]
                    self._aliases[alias.asname or bound] = bound
            elif isinstance(node, ast.ImportFrom):
                origin = self._origin(node)
                for alias in node.names:
                    self.imports.append((node.lineno, f"{origin}.{alias.name}"))
                    self._aliases[alias.asname or alias.name] = f"{origin}.{alias.name}"

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        base = self._package.split(".")
        base = base[: len(base) - node.level + 1]
        return ".".join([*base, node.module] if node.module else base)

    @property
    def part(self) -> str:
        """The package below stretto, or the name of a module that stands there itself."""
        return [*self.name.split("."), ""][1]

    def dotted(self, node: ast.expr) -> str | None:
        """The full name of what an expression such as `np.random.seed` means, if it begins with an imported name."""
        if isinstance(node, ast.Name):
            return self._aliases.get(node.id)
        if isinstance(node, ast.Attribute) and (base := self.dotted(node.value)) is not None:
            return f"{base}.{node.attr}"
        return None

    def uses(self) -> Iterator[tuple[int, str]]:
        """Line and full name of every use of something imported, and of every import."""
        yield from self.imports
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name | ast.Attribute) and (name := self.dotted(node)) is not None:
                yield node.lineno, name
            if isinstance(node, ast.Name) and node.id == "__import__":
                yield node.lineno, "importlib"


def edge_problems(module: Module) -> Iterator[str]:
    """The imports of ours that this module may not have."""
    if module.part not in MAY_IMPORT:
        yield f"{module.name}: nothing says what {module.part!r} may import; add it to MAY_IMPORT"
        return
    allowed = MAY_IMPORT[module.part]
    for line, name in module.imports:
        parts = name.split(".")
        if parts[0] != "stretto":
            if module.part == "core" and parts[0] not in sys.stdlib_module_names | CORE_DEPENDENCIES:
                yield f"{module.name}:{line}: core imports {parts[0]}"
            continue
        target = parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else ""
        if target != module.part and allowed is not ANYTHING and target not in allowed:
            yield f"{module.name}:{line}: {module.part or 'stretto'} imports {target or 'stretto'}"
        if target == module.part == "protocols" and len(parts) > 2 and parts[2] != module.name.split(".")[2]:
            yield f"{module.name}:{line}: the protocol imports another protocol, {parts[2]}"


def purity_problems(module: Module) -> Iterator[str]:
    """The uses of clocks, sockets, threads and global randomness, if the module belongs to a pure package."""
    if module.part not in PURE or module.name in OUTSIDE_THE_RULES:
        return
    found: set[tuple[int, str]] = set()
    for line, name in module.uses():
        impure = next((bad for bad in IMPURE_MODULES if name == bad or name.startswith(bad + ".")), None)
        if impure is None or any(name == good or name.startswith(good + ".") for good in SEEDED):
            continue
        if name in ("random", "numpy.random"):  # the name alone, as in `import random`: what is taken from it decides
            continue
        found.add((line, name))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and not node.args and not node.keywords and (called := module.dotted(node.func)) in NEEDS_SEED:
            found.add((node.lineno, f"{called} without a seed"))
    for line, name in sorted(found):
        yield f"{module.name}:{line}: a pure package uses {name}"


def problems(module: Module) -> list[str]:
    """Everything that is wrong with one module."""
    return [*edge_problems(module), *purity_problems(module)]


def modules() -> Iterator[Module]:
    """All of the package."""
    for file in sorted((SOURCE / "stretto").rglob("*.py")):
        relative = file.relative_to(SOURCE).with_suffix("")
        is_package = relative.name == "__init__"
        name = ".".join(relative.parent.parts if is_package else relative.parts)
        yield Module(name, file.read_text(encoding="utf-8"), is_package)


def test_every_import_is_allowed_and_the_pure_packages_are_pure() -> None:
    read = list(modules())
    assert len(read) > 20, "the source was not found"
    assert [problem for module in read for problem in problems(module)] == []


def test_no_circles_in_replication_and_protocols() -> None:
    """A part knows the parts it is built with, and none that is built with it: not even for the type checker."""
    known = {module.name: module for module in modules() if module.part in ("replication", "protocols")}
    imports = {name: {target.rpartition(".")[0] for _, target in module.imports} & known.keys() for name, module in known.items()}
    assert len(known) > 40
    done: set[str] = set()
    while ready := {name for name in known.keys() - done if imports[name] <= done | {name}}:
        done |= ready
    assert sorted(known.keys() - done) == [], "these import each other, or a module that does"


def test_a_protocols_replica_is_one_subclass_of_one_base() -> None:
    for name in protocol_names():
        replica = protocol(name).replica
        made = replica.func if isinstance(replica, partial) else replica
        assert isinstance(made, type)
        assert [base.__name__ for base in made.__mro__[1:]] == ["Replica", "ABC", "object"]


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("stretto.core.node", "import stretto.replication.log", "core imports replication"),
        ("stretto.core.node", "from stretto import runtime", "core imports runtime"),
        ("stretto.core.node", "from stretto import connect", "core imports stretto"),
        ("stretto.core.node", "import numpy", "core imports numpy"),
        ("stretto.core.node", "from ..runtime import loop", "core imports runtime"),
        ("stretto.apps.kv", "from stretto.replication import log", "apps imports replication"),
        ("stretto.runtime.loop", "def f():\n    from stretto.protocols.speculative import SPECULATIVE", "runtime imports protocols"),
        ("stretto.simulation.world", "if TYPE_CHECKING:\n    import stretto.protocols", "simulation imports protocols"),
        ("stretto.simulation.world", "import stretto.catalog", "simulation imports catalog"),
        ("stretto.protocols.fast.replica", "from stretto.protocols.slow import merge", "another protocol, slow"),
        ("stretto.protocols.fast.replica", "from ..slow import merge", "another protocol, slow"),
        ("stretto.newcomer.a", "", "nothing says what 'newcomer' may import"),
        ("stretto.core.node", "import time", "uses time"),
        ("stretto.core.node", "from time import monotonic_ns", "uses time.monotonic_ns"),
        ("stretto.core.node", "def f():\n    import asyncio.events", "uses asyncio.events"),
        ("stretto.verify.a", "import socket as s", "uses socket"),
        ("stretto.network.a", "import threading", "uses threading"),
        ("stretto.apps.a", "from datetime import datetime as d\nd.now()", "uses datetime.datetime.now"),
        ("stretto.apps.a", "import datetime\ndatetime.date.today()", "uses datetime.date.today"),
        ("stretto.apps.a", "import random\nrandom.random()", "uses random.random"),
        ("stretto.apps.a", "import random\nrandom.seed(1)", "uses random.seed"),
        ("stretto.apps.a", "import random\nx = random.SystemRandom(1)", "uses random.SystemRandom"),
        ("stretto.apps.a", "from random import shuffle", "uses random.shuffle"),
        ("stretto.apps.a", "from random import Random\nRandom()", "random.Random without a seed"),
        ("stretto.network.a", "import numpy as np\nnp.random.seed(1)", "uses numpy.random.seed"),
        ("stretto.network.a", "import numpy as np\nnp.random.default_rng()", "numpy.random.default_rng without a seed"),
        ("stretto.network.a", "from numpy import random as r\nr.poisson(3)", "uses numpy.random.poisson"),
        ("stretto.core.a", "import os\nos.urandom(4)", "uses os.urandom"),
        ("stretto.core.a", "from os import urandom", "uses os.urandom"),
        ("stretto.core.a", "import secrets", "uses secrets"),
        ("stretto.core.a", "from uuid import uuid4", "uses uuid.uuid4"),
        ("stretto.core.a", "__import__('time')", "uses importlib"),
        ("stretto.core.a", "from importlib import import_module", "uses importlib.import_module"),
    ],
)
def test_the_checker_finds_what_is_planted(name: str, source: str, expected: str) -> None:
    found = problems(Module(name, source))
    assert len(found) >= 1
    assert all(expected in problem for problem in found), found


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("stretto.simulation.world", "from stretto.core.node import Node\nfrom stretto.verify import history\nfrom . import links"),
        ("stretto.protocols.fast.replica", "from stretto.protocols.fast import merge\nfrom . import messages"),
        ("stretto.protocols.fast.replica", "from stretto.replication import log\nimport stretto.core.node"),
        ("stretto.apps.a", "from datetime import datetime, timedelta\ndatetime(2000, 1, 1)"),
        ("stretto.apps.a", "import random\nfrom random import Random\nrandom.Random(7).random()\nRandom(7).shuffle([])"),
        ("stretto.network.a", "import numpy as np\nrng = np.random.default_rng(7)\nrng.poisson(3)\nx: np.random.Generator"),
        ("stretto.runtime.loop", "import time, socket, asyncio\nfrom stretto.core import node"),
        ("stretto.cli.kv", "import time\nfrom stretto.runtime import client_host\nfrom stretto.catalog import protocol"),
        ("stretto.core.a", "def time(): ...\ntime()\nself.time.random()"),
    ],
)
def test_the_checker_leaves_alone_what_is_allowed(name: str, source: str) -> None:
    assert problems(Module(name, source)) == []


def test_importing_the_contract_loads_no_host() -> None:
    """The pure packages stay usable where there is no event loop, and commands stay quick to start."""
    program = (
        "import sys, stretto.core.config, stretto.services.service, stretto.catalog\n"
        "print(sorted({'asyncio', 'socket', 'numpy', 'stretto.runtime', 'stretto.client'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_document_names_every_package_and_module_once() -> None:
    package = SOURCE / "stretto"
    there = [f"{init.parent.name}/" for init in package.glob("*/__init__.py")] + [module.name for module in package.glob("*.py")]
    named = re.findall(r"^ {6}(\w+(?:/|\.py)) ", DOCUMENT, re.MULTILINE)
    assert set(named) ^ set(there) == set()
    assert len(named) == len(there)


def test_the_document_names_every_part_of_replication_once() -> None:
    there = [module.name for module in (SOURCE / "stretto" / "replication").glob("*.py") if module.name != "__init__.py"]
    named = re.findall(r"^ {8}(\w+\.py) ", DOCUMENT, re.MULTILINE)
    assert set(named) ^ set(there) == set()
    assert len(named) == len(there)


def test_the_document_names_files_that_exist() -> None:
    named = re.findall(r"`([\w/]+(?:/|\.py))`", DOCUMENT)
    assert [name for name in named if not (SOURCE / "stretto" / name).exists() and not (ROOT / name).exists()] == []


def test_the_document_says_what_may_import_what() -> None:
    rows = re.findall(r"^\| (\w+) \| ([\w, ]+?) \| (yes|) *\|$", DOCUMENT, re.MULTILINE)
    documented = {package: (set(allowed.split(", ")), pure == "yes") for package, allowed, pure in rows}
    nothing, anything = {"nothing"}, {"anything"}
    expected = {
        name or "stretto": (anything if allowed is ANYTHING else {other or "stretto" for other in allowed} or nothing, name in PURE)
        for name, allowed in MAY_IMPORT.items()
    }
    packages = documented.keys() | expected.keys()
    assert {name: (documented.get(name), expected.get(name)) for name in packages if documented.get(name) != expected.get(name)} == {}
