"""What papers claim, and what Stretto does, and the rules by which our figures are held against it. A verdict is computed from rows,
and nowhere else.

Each rule is an object that has its words, so that a report states the very rule that was applied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from stretto import catalog
from stretto.reproduction.rows import Missing, Rows


class Outcome(Enum):
    """How a claim fared here."""

    REPRODUCED = "reproduced"
    PARTLY = "partly"
    NOT = "not reproduced"
    OPEN = "not examined"


class Rule(Protocol):
    """Judges one number."""

    def judge(self, ours: float) -> Outcome:
        """The outcome for our number."""

    @property
    def words(self) -> str:
        """The rule, for a reader."""


@dataclass(frozen=True)
class AtLeast:
    """More is better, and the claim says how much there is. `even` is where the direction turns; `slack` is what does not matter."""

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
    """Less is better: the claim says how little there is."""

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
    """The claim is a figure to be met, neither more nor less: within a factor, partly within a wider one."""

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
    """Where a claim stands."""

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


STRETTO = Paper("Stretto", "Adaptive Speculative Paxos, which comes with Stretto: docs/adaptive.md. No paper; held to what it is for.")


@dataclass(frozen=True)
class Finding:
    """Our side: a number, how it is said, and what explains it, all from rows."""

    value: float
    text: str
    reason: str


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper, and how to find our side of it.

    `words` stand in the paper as they are if `quoted`, and are its sense otherwise; `number` is its figure; `protocols` must be there
    for it to be examined; `subject` is a title. `find` gives our side, and raises Missing if rows lack.
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
    """A claim with what became of it."""

    claim: Claim
    outcome: Outcome
    ours: str
    reason: str
    value: float | None = None


def judge(claim: Claim, rows: Rows) -> Verdict:
    """Hold a claim against the rows of its experiment."""
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
