"""The claims of papers, and the rules that compare our figures with them. Verdicts are computed from rows only.

Each rule is an object with a description of itself, so a report states exactly the rule that was applied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from stretto import catalog
from stretto.reproduction.rows import Missing, Rows


class Outcome(Enum):
    """The result of the examination of a claim."""

    REPRODUCED = "reproduced"
    PARTLY = "partly"
    NOT = "not reproduced"
    OPEN = "not examined"


class Rule(Protocol):
    """Judges one number of ours."""

    def judge(self, ours: float) -> Outcome:
        """The outcome for this number."""

    @property
    def words(self) -> str:
        """The rule in words."""


@dataclass(frozen=True)
class AtLeast:
    """More is better.

    `claimed`: the figure of the claim. `even`: the value below which the direction of the claim is wrong. `slack`: the relative difference
    that is ignored.
    """

    claimed: float
    even: float = 1.0
    slack: float = 0.1

    def judge(self, ours: float) -> Outcome:
        """See `Rule`."""
        if ours >= self.claimed * (1 - self.slack):
            return Outcome.REPRODUCED
        return Outcome.PARTLY if ours > self.even * (1 + self.slack / 2) else Outcome.NOT

    @property
    def words(self) -> str:
        """See `Rule`."""
        least, turn = self.claimed * (1 - self.slack), self.even * (1 + self.slack / 2)
        return f"reproduced from {least:.3g} on, partly if above {turn:.3g}, else not"


@dataclass(frozen=True)
class AtMost:
    """Less is better. `claimed`, `even`, `slack`: see `AtLeast`; the direction is wrong above `even`."""

    claimed: float
    even: float = 1.0
    slack: float = 0.1

    def judge(self, ours: float) -> Outcome:
        """See `Rule`."""
        if ours <= self.claimed * (1 + self.slack):
            return Outcome.REPRODUCED
        return Outcome.PARTLY if ours < self.even * (1 - self.slack / 2) else Outcome.NOT

    @property
    def words(self) -> str:
        """See `Rule`."""
        most, turn = self.claimed * (1 + self.slack), self.even * (1 - self.slack / 2)
        return f"reproduced up to {most:.3g}, partly if below {turn:.3g}, else not"


@dataclass(frozen=True)
class Near:
    """The figure of the claim must be met within `factor`, up or down; the claim is partly reproduced within `wide`."""

    claimed: float
    factor: float
    wide: float

    def judge(self, ours: float) -> Outcome:
        """See `Rule`."""
        off = max(ours / self.claimed, self.claimed / ours) if ours > 0 else float("inf")
        if off <= self.factor:
            return Outcome.REPRODUCED
        return Outcome.PARTLY if off <= self.wide else Outcome.NOT

    @property
    def words(self) -> str:
        """See `Rule`."""
        return f"reproduced within a factor of {self.factor:g} of {self.claimed:.3g}, partly within {self.wide:g}, else not"


@dataclass(frozen=True)
class Paper:
    """The source of a claim."""

    short: str
    reference: str


NSDI15 = Paper(
    "NSDI'15",
    "Ports, Li, Liu, Sharma, Krishnamurthy: Designing Distributed Systems Using Approximate Synchrony in Data Center Networks. NSDI 2015",
)
OSDI16 = Paper(
    "OSDI'16",
    "Li, Michael, Sharma, Szekeres, Ports: Just Say NO to Paxos Overhead: Replacing Consensus with Network Ordering. OSDI 2016",
)


STRETTO = Paper(
    "Stretto", "Adaptive Speculative Paxos, which comes with Stretto: docs/adaptive.md. There is no paper; the claims are its design goals."
)


@dataclass(frozen=True)
class Finding:
    """Our result for a claim, computed from rows: a number, its text, and the explanation."""

    value: float
    text: str
    reason: str


@dataclass(frozen=True)
class Claim:
    """A statement of a paper, and how to find our result for it.

    `subject` is a title. `words` are a quotation if `quoted`, and a paraphrase otherwise. `number` is the figure of the claim.
    Without one of the `protocols` the claim cannot be examined. `find` computes our result, and raises Missing if rows are missing.
    """

    name: str
    subject: str
    paper: Paper
    section: str
    words: str
    number: str
    protocols: tuple[str, ...]
    rule: Rule
    find: Callable[[Rows], Finding]
    quoted: bool = False


@dataclass(frozen=True)
class Verdict:
    """A claim with its outcome."""

    claim: Claim
    outcome: Outcome
    ours: str
    reason: str
    value: float | None = None


def judge(claim: Claim, rows: Rows) -> Verdict:
    """Examine a claim with the rows of its experiment."""
    known = catalog.protocol_names()
    if lacking := [name for name in claim.protocols if name not in known]:
        return Verdict(claim, Outcome.OPEN, "-", f"There is no protocol {' and '.join(lacking)} to examine it with.")
    good = rows.good()
    try:
        finding = claim.find(good)
    except Missing as lack:
        failed = [row["error"] for row in rows if "error" in row]
        why = f" {len(failed)} of its points failed, the first with: {failed[0]}." if failed else ""
        return Verdict(claim, Outcome.OPEN, "-", f"No point gave {lack}.{why}")
    return Verdict(claim, claim.rule.judge(finding.value), finding.text, finding.reason, finding.value)
