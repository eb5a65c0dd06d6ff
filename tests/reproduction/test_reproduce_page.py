"""The document about reproduction: the experiment that it shows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from stretto.calibration.costs import CostFile
from stretto.reproduction import charts, experiment, points, styles
from stretto.reproduction.experiment import Scope
from stretto.reproduction.experiments import NAMES
from stretto.reproduction.rows import Rows, flat
from stretto.simulation.world import Costs

DOCUMENT = (Path(__file__).parents[2] / "docs" / "reproduce.md").read_text(encoding="utf-8")


def test_the_experiment_that_is_shown_runs() -> None:
    [program] = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    constant, functions = program.split("\n\n\n", 1)
    names: dict[str, Any] = vars(charts) | vars(styles) | vars(points) | vars(experiment) | {"Rows": Rows}
    exec("from __future__ import annotations\n" + functions + "\n" + constant, names)
    found = names["EXPERIMENT"]
    scope = Scope(True, 1, CostFile(Costs(1_000), Costs(), {}, {}, {}), ("unreplicated",))
    rows = Rows({**point.factors, **flat(point.run())} for point in found.points(scope))
    (chart,) = found.show(rows)
    assert [x for x, _ in chart.lines[0].points] == [0, 100]


def test_every_experiment_is_in_the_table() -> None:
    assert tuple(re.findall(r"^\| `(\w+)` \| ", DOCUMENT, re.MULTILINE)) == NAMES
