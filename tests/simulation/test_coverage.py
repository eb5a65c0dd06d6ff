"""The coverage of a run: events by kind, by the event before, and by fault."""

from __future__ import annotations

from stretto.simulation.coverage import Coverage


def test_features_tell_what_followed_what_under_which_fault() -> None:
    active: list[str] = []
    coverage = Coverage(lambda: active)
    coverage.reported(0, "view change", {"reason": "replica 2 recovers", "view": 3})
    active.append("loss")
    coverage.reported(1, "view entered", {"view": 3})
    coverage.reported(2, "view entered", {"view": 3})
    assert coverage.events == {"view change: replica N recovers": 1, "view entered": 2}
    assert coverage.features == {
        "view change: replica N recovers after the beginning",
        "view change: replica N recovers x 1",
        "view entered after view change: replica N recovers",
        "view entered after view entered",
        "view entered under loss",
        "view entered x 1",
        "view entered x 2",
    }


def test_how_often_counts_by_powers_of_two_and_numbers_in_a_reason_do_not() -> None:
    coverage = Coverage(lambda: ())
    for number in range(100):
        coverage.reported(0, "view change", {"reason": f"replica {number} recovers"})
    times = {int(feature.rpartition(" x ")[2]) for feature in coverage.features if " x " in feature}
    assert times == {1, 2, 4, 8, 16, 32, 64}
    assert len(coverage.features) == 7 + 2
