"""The checks as functions of data: what is a violation. (`test_search` finds violations of nodes.)"""

from __future__ import annotations

import pytest

from stretto.exploration.checks import Answer, Facts, Past, check_step, with_call, with_facts, with_return
from stretto.verify.violation import Violation


def facts(operations: str, committed: int, *, view: int = 0, serving: bool = True, base: int = 0) -> Facts:
    """A replica whose log has one operation at each position, `committed` of them committed; equal prefixes have equal hashes."""
    names = tuple(operation.encode() for operation in operations)
    hashes = tuple(operations[:position].encode() for position in range(base, committed + 1))
    return Facts(view, serving, base, committed, hashes, names, committed)


def past(begun: str = "", accepted: tuple[str, ...] = (), committed: str = "", view: int | None = 0) -> Past:
    """Operations called one by one before any returned; results, as sequences; and what is committed."""
    operations = tuple(tuple(operation.encode() for operation in result) for result in accepted)
    return with_facts(
        Past(tuple((name.encode(), frozenset()) for name in begun), tuple((result, view) for result in operations)),
        facts(committed, len(committed)),
    )


def returned(operations: str) -> Answer:
    """A result."""
    return Answer(tuple(operation.encode() for operation in operations), 0, None)


def test_a_past_grows_with_what_is_committed() -> None:
    grown = with_facts(past(committed="ab"), facts("abc", 3))
    assert grown.hashes == (b"a", b"ab", b"abc")
    assert grown.committed == (b"a", b"b", b"c")
    assert with_facts(grown, facts("abd", 1)) == grown
    assert with_facts(grown, facts("abcx", 3, base=2)) == grown


@pytest.mark.parametrize(
    ("before", "now", "kind"),
    [
        (past(committed="ab"), facts("ac", 2), "commits differ"),
        (past(committed="ab"), facts("acd", 3), "commits differ"),
        (past("ab", ("ab",)), facts("b", 1), "accepted result lost"),
        (past("ab", ("ab",)), facts("b", 0, view=1), "accepted result lost"),
    ],
)
def test_a_replica_that_contradicts_the_past(before: Past, now: Facts, kind: str) -> None:
    with pytest.raises(Violation) as found:
        with_facts(before, now)
    assert found.value.kind == kind


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (past("ab", ("a",)), facts("b", 0)),  # in the view that gave the result, a log may differ
        (past("ab", ("a",)), facts("b", 0, view=1, serving=False)),  # it has not entered its view yet
        (past("ab", ("a",), view=None), facts("b", 0, view=1)),  # the answer named no view
        (past("ab", ("a",)), facts("ab", 2, view=1)),
    ],
)
def test_a_replica_that_does_not(before: Past, now: Facts) -> None:
    with_facts(before, now)


@pytest.mark.parametrize(
    ("before", "operation", "result", "kind"),
    [
        (past("ab", ("a",)), b"b", "b", "not linearizable"),
        (past("ab", ("ab",)), b"a", "ba", "not linearizable"),
        (past("ab"), b"b", "a", "wrong result"),
        (past("ab", committed="a"), b"b", "b", "wrong result"),
        (with_call(past("a", ("a",)), b"b"), b"b", "b", "not linearizable"),
        (past("a", ("a",))._replace(begun=((b"a", frozenset()), (b"b", frozenset((b"c",))))), b"b", "ab", "real-time order broken"),
    ],
)
def test_a_result_that_contradicts_the_past(before: Past, operation: bytes, result: str, kind: str) -> None:
    with pytest.raises(Violation) as found:
        with_return(before, operation, returned(result), [])
    assert found.value.kind == kind


def test_a_result_is_compared_with_the_replicas_that_are_there_already() -> None:
    with pytest.raises(Violation) as found:
        with_return(past("ab"), b"a", returned("a"), [facts("b", 0, view=1)])
    assert found.value.kind == "accepted result lost"


def test_an_error_is_no_evidence() -> None:
    before = past("ab", ("a",))
    assert with_return(before, b"b", Answer(None, None, "RequestTimeout"), [facts("x", 0, view=7)]) == before


def test_a_view_or_commit_must_not_go_back() -> None:
    check_step(facts("ab", 1, view=1), facts("a", 1, view=1))
    check_step(None, facts("a", 1))
    with pytest.raises(Violation, match="commit taken back"):
        check_step(facts("ab", 2), facts("ab", 1))
    with pytest.raises(Violation, match="view went down"):
        check_step(facts("", 0, view=2), facts("", 0, view=1))
