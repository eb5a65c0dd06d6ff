"""The tables of which message counts in the documents come from the gate: `pytest tests/test_gate_tables.py --rewrite` writes them."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from stretto.catalog import protocol, protocol_names
from stretto.core.node import Message
from stretto.replication.gate import PEER_RULES, Action, Rule, Rules, Sender
from stretto.replication.group import ANY_STATUS, HAS_STATE, IN_SERVICE, IN_VIEW
from stretto.replication.replica import Replica

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {"speculative": "speculative", "adaptive": "adaptive", "nopaxos": "nopaxos", "multipaxos": "baselines", "fastpaxos": "baselines"}
EVERY = "every protocol"
STATUSES = {ANY_STATUS: "any", IN_SERVICE: "in service", IN_VIEW: "in its view", HAS_STATE: "in service, BOOTSTRAPPING"}
NOT_FOR_REPLICAS = {"UpgradeReply", "Reply", "SpeculativeReply", "AdaptiveReply", "NoPaxosReply", "OpenSession", "OtherLife"}


def rules_of(name: str) -> Rules:
    """The whole table of a protocol."""
    package = import_module(f"stretto.protocols.{name.removesuffix('-batched')}.replica")
    (replica,) = (
        found for found in vars(package).values() if isinstance(found, type) and issubclass(found, Replica) and found is not Replica
    )
    return replica.rules


def cells(rule: Rule) -> tuple[str, ...]:
    """What one row says beside the messages."""
    senders = " or ".join("the " + sender.value if sender is Sender.LEADER else "a " + sender.value for sender in rule.senders)
    statuses = STATUSES.get(rule.statuses) or ", ".join(status.name for status in rule.statuses)
    views = [action_text(action) for action in (rule.older, rule.higher)]
    return (senders, "the leader" if rule.to_leader else "all", statuses, *views, action_text(rule.otherwise))


def action_text(action: Action | None) -> str:
    """In a cell."""
    return "no view" if action is None else action.value


def table(rules: Rules) -> str:
    """The rows, those of equal rules together."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for kind, rule in rules.items():
        rows.setdefault(cells(rule), []).append(kind.__name__)
    heading = (
        "| message | from | for | counts while the replica is | of an older view | of a higher view | in another status |\n"
        + "|---" * 7
        + "|\n"
    )
    return heading + "".join(f"| {' | '.join((', '.join(names), *row))} |\n" for row, names in rows.items())


def expected(name: str) -> str:
    """The table that belongs behind a marker."""
    if name == EVERY:
        return table(PEER_RULES)
    return table({kind: rule for kind, rule in rules_of(name).items() if kind not in PEER_RULES})


@pytest.mark.parametrize("name", [*PAGES, EVERY])
def test_the_documents_have_the_gates_table(name: str, request: pytest.FixtureRequest) -> None:
    page = DOCS / f"{PAGES.get(name, 'speculative')}.md"
    text = page.read_text(encoding="utf-8")
    marked = re.compile(rf"(<!-- gate: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    assert marked.search(text), f"{page.name} has no place for the table of {name}"
    wanted = marked.sub(lambda found: found[1] + expected(name) + found[2], text)
    if request.config.getoption("--rewrite"):
        page.write_text(wanted, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == wanted, "run: pytest tests/test_gate_tables.py --rewrite"


@pytest.mark.parametrize("name", protocol_names())
def test_every_message_for_a_replica_has_a_rule(name: str) -> None:
    rules: set[type[Message]] = set(rules_of(name))
    assert {kind.__name__ for kind in set(protocol(name).message_types) - rules} - NOT_FOR_REPLICAS in (set(), {"Request"})
    assert rules <= set(protocol(name).message_types)
