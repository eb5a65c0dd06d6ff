"""Points are run once, rows are kept, and what is there is not run again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stretto.calibration.costs import CostFile
from stretto.core.errors import ConfigurationError
from stretto.network.experiment import Setting
from stretto.reproduction import runner
from stretto.reproduction.experiment import Experiment, Scope
from stretto.reproduction.points import AnyPoint, Ordering, Simulated
from stretto.reproduction.rows import FILE_NAME, RowFile, Rows, code_version, flat, key_of, to_csv
from stretto.simulation.world import Costs


def costs(spent: Costs) -> CostFile:
    return CostFile(spent, spent, {}, {}, {})


COSTS = costs(Costs(1_000, 500, 1_000, 500))
SCOPE = Scope(True, 1, COSTS, ("unreplicated",))


def points(scope: Scope) -> Iterator[AnyPoint]:
    for seed in (1, 2):
        yield Simulated({"protocol": "unreplicated", "seed": seed}, scope.spec("unreplicated", 1, 2, 20, seed=seed))


TINY = Experiment("tiny", "Tiny", "Does it run?", "It runs.", points, lambda rows: [])


def run(directory: Path, experiment: Experiment = TINY, scope: Scope = SCOPE, workers: int = 1) -> tuple[runner.Plan, RowFile]:
    file = RowFile(directory, fresh=False)
    plan = runner.plan([experiment], scope, file)
    runner.run(plan.jobs, file, workers, None, lambda job: None)
    file.close()
    return plan, file


def test_rows_are_kept_and_not_run_again(tmp_path: Path) -> None:
    plan, file = run(tmp_path)
    assert len(plan.jobs) == 2
    rows = [file.by_key[key] for key in plan.keys["tiny"]]
    assert [row["seed"] for row in rows] == [1, 2]
    assert rows[0]["throughput_ops_s"] > 0
    assert rows[0]["latency_us.p50"] > 40
    assert rows[0]["command"].startswith("stretto simulate --protocol unreplicated")
    again, _ = run(tmp_path)
    assert again.jobs == []


def test_workers_give_the_same_rows(tmp_path: Path) -> None:
    one, two = (run(tmp_path / name, workers=workers)[1].by_key for name, workers in (("one", 1), ("two", 2)))
    for rows in (one, two):
        for row in rows.values():
            del row["seconds"]
    assert one == two


def test_other_settings_are_other_points(tmp_path: Path) -> None:
    run(tmp_path)
    plan, _ = run(tmp_path, scope=Scope(True, 1, costs(Costs(1_000, 600, 1_000, 500)), ("unreplicated",)))
    assert len(plan.jobs) == 2
    (point, *_) = points(SCOPE)
    assert key_of("tiny", point, "a") != key_of("tiny", point, "b") != key_of("other", point, "b")
    assert code_version() == code_version()


def test_a_failed_point_is_reported_and_tried_again(tmp_path: Path) -> None:
    bad = Experiment("bad", "", "", "", lambda scope: [Ordering({}, Setting("nowhere"))], lambda rows: [])
    plan, file = run(tmp_path, bad)
    (row,) = file.by_key.values()
    assert row["error"].startswith("ConfigurationError: ")
    assert "nowhere" in row["error"]
    assert len(run(tmp_path, bad)[0].jobs) == len(plan.jobs) == 1


def test_a_line_that_was_cut_short_is_run_again(tmp_path: Path) -> None:
    run(tmp_path)
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:-10])
    plan, file = run(tmp_path)
    assert len(plan.jobs) == 1
    assert len(file.by_key) == 2
    assert run(tmp_path)[0].jobs == []


def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("not a row\n")
    with pytest.raises(ConfigurationError, match="line 1 is not a row"):
        RowFile(tmp_path, fresh=False)
    RowFile(tmp_path, fresh=True).close()


def test_every_point_of_every_experiment_makes_sense_and_can_be_repeated() -> None:
    from stretto.reproduction import experiments
    from stretto.reproduction.experiment import protocols
    from stretto.reproduction.points import Reconciling

    for quick in (True, False):
        scope = Scope(quick, 1, COSTS, protocols())
        for name in experiments.NAMES:
            found = list(experiments.experiment(name).points(scope))
            assert len({key_of(name, point, "") for point in found}) == len(found)
            assert found or name == "testbed"  # which needs more than every machine has, and more time than a quick run
            for point in found:
                assert point.command().startswith("stretto ")
                assert point.expected_s() > 0
                if isinstance(point, Simulated | Reconciling):
                    point.spec.validate()


def test_there_is_time_for_all_of_it() -> None:
    """The plan, on two workers of the usual speed, keeps to its time."""
    from stretto.reproduction import experiments
    from stretto.reproduction.experiment import protocols

    for quick, most_s in ((True, 300), (False, 3_600)):
        scope = Scope(quick, 1, COSTS, protocols())
        jobs = [runner.Job(name, "", point) for name in experiments.NAMES for point in experiments.experiment(name).points(scope)]
        assert runner.Plan({}, jobs).expected_s(1.0, 2) < most_s


def test_rows_are_chosen_and_summed_up() -> None:
    rows = Rows([{"a": 1, "x": 1.0}, {"a": 1, "x": 3.0}, {"a": 2, "x": 9.0}, {"a": 2}])
    assert rows.where(a=1).median("x") == 2.0
    assert rows.where(a=1).spread("x") == (1.0, 3.0)
    assert rows.best("x", by="a").values("a") == [2]
    assert flat({"a": {"b": {"c": 1}}, "d": None}) == {"a.b.c": 1, "d": None}
    assert to_csv(rows.all) == "a,x\n1,1.0\n1,3.0\n2,9.0\n2,\n"


def test_factors_name_variants(tmp_path: Path) -> None:
    """What a point is called stands in its row, whatever the figures say of themselves."""
    (first, _) = points(SCOPE)
    assert isinstance(first, Simulated)
    variant = Simulated({"protocol": "unreplicated, again"}, first.spec)
    _, file = run(tmp_path, Experiment("variant", "", "", "", lambda scope: [variant], lambda rows: []))
    assert [row["protocol"] for row in file.by_key.values()] == ["unreplicated, again"]
