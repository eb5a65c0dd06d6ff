"""Bugs in view changes, and in the merge of logs."""

from __future__ import annotations

from stretto.mutants.hunters import network, walks
from stretto.mutants.mutant import Mutant

_MERGING = "stretto.replication.merging"
_GATE = "stretto.replication.gate"
_GROUP = "stretto.replication.group"
_VIEWS = "stretto.replication.view_change"

MUTANTS = (
    Mutant(
        "committed-by-a-minority",
        "The log that a view starts with is committed when a majority has entered the view",
        _VIEWS,
        "if self.start_last > self.state.committed and group.has_majority(self.entered):",
        "if self.start_last > self.state.committed and len(group.current_voters(self.entered)) >= group.quorums.majority - 1:",
        network(5),
    ),
    Mutant(
        "last-normal-view-from-the-log",
        "last_normal_view is the view last entered, whether or not it has received anything",
        _VIEWS,
        "return DoViewChange(group.incarnations, group.view, group.last_normal_view, committed,",
        "view = group.last_normal_view if log.last > self.start_last else max(0, group.last_normal_view - group.n)\n"
        "        return DoViewChange(group.incarnations, group.view, view, committed,",
        walks("operations=3,views=6,timers=12"),
    ),
    Mutant(
        "vote-with-part-of-the-log",
        "A vote has every entry after the committed position",
        _VIEWS,
        "entries, summary = tuple(log.entries(committed + 1)), log.hash_at(committed)\n",
        "entries, summary = tuple(log.entries(committed + 1))[:5], log.hash_at(committed)\n",
        network(5),
    ),
    Mutant(
        "merge-support-too-large",
        "⌈f/2⌉+1 of f+1 logs are enough to keep an entry at its position",
        _MERGING,
        "min(merge_support, len(candidates))",
        "min(merge_support + 1, len(candidates))",
        network(5),
    ),
    Mutant(
        "merge-support-too-small",
        "⌈f/2⌉+1 of f+1 logs are needed to keep an entry at its position",
        _MERGING,
        "min(merge_support, len(candidates))",
        "min(merge_support - 1, len(candidates))",
        network(5),
    ),
    Mutant(
        "merge-of-more-than-a-majority",
        "Exactly f+1 votes are merged",
        _VIEWS,
        """\
        if index in voters and len(voters) >= self.group.quorums.majority and self.merging is None:
            others = [voter for voter in sorted(voters) if voter != index][: self.group.quorums.f]
            self.merging = {voter: self.votes[voter] for voter in [index, *others]}
            self._merge()

    def _merge(self) -> None:
        \"""Merge exactly f+1 logs, once we have all that is committed in any of them, and start the view with the result.\"""
        group = self.group
        assert self.merging is not None
        assert len(self.merging) == group.quorums.majority
""",
        """\
        if index in voters and len(voters) > self.group.quorums.majority and self.merging is None:
            self.merging = {voter: self.votes[voter] for voter in voters}
            self._merge()

    def _merge(self) -> None:
        group = self.group
        assert self.merging is not None
""",
        network(5),
    ),
    Mutant(
        "merge-of-stale-logs",
        "Only votes of the highest last_normal_view count for speculative entries",
        _MERGING,
        "return {index: votes[index] for index in sorted(votes) if votes[index].last_normal_view == newest}",
        "return {index: votes[index] for index in sorted(votes) if votes[index].last_normal_view <= newest}",
        walks("operations=3,views=6,timers=12"),
    ),
    Mutant(
        "merge-with-duplicates",
        "A merged log has no operation twice",
        _MERGING,
        "                reached[slot(request)] = request.number\n                result.append(request)\n",
        "                result.append(request)\n",
        network(3),
    ),
    Mutant(
        "merge-without-sessions",
        "A merge appends no request that the session table has at the commit base",
        _MERGING,
        "reached = dict(numbers)",
        "reached: dict[tuple[int, int], int] = {}",
        network(3),
    ),
    Mutant(
        "base-of-the-slowest",
        "The commit base of a merge is the highest position that a voter knows to be committed",
        _MERGING,
        "voter = max(sorted(votes), key=lambda index: votes[index].committed)",
        "voter = min(sorted(votes), key=lambda index: votes[index].committed)",
        network(3),
    ),
    Mutant(
        "base-not-compared",
        "The log up to a view's commit base is compared by hash, and fetched if it differs",
        "stretto.replication.state",
        "        return position <= self.committed or self.log.matches(position, summary)\n",
        "        return position <= self.committed or self.log.last >= position\n",
        network(3),
    ),
    Mutant(
        "older-view-entered",
        "A replica that tries to enter a view enters no older one",
        _GATE,
        "Status.VIEW_CHANGE), older=Action.IGNORE, higher=Action.COUNT",
        "Status.VIEW_CHANGE), older=Action.COUNT, higher=Action.COUNT",
        network(3),
    ),
    Mutant(
        "view-entered-twice",
        "A replica that is in a view ignores its StartView",
        _GATE,
        "(Status.BOOTSTRAPPING, Status.RECOVERING, Status.VIEW_CHANGE)",
        "(Status.BOOTSTRAPPING, Status.RECOVERING, Status.VIEW_CHANGE, Status.NORMAL)",
        network(3),
    ),
    Mutant(
        "view-committed-as-it-has-grown",
        "A majority in a view commits the log that the view started with, not the log as it has grown",
        _VIEWS,
        "            self.state.commit_up_to(max(self.start_last, self.state.committed))\n",
        "            self.start_last, self.start_hash = self.state.log.last, self.state.log.last_hash\n"
        "            self.state.commit_up_to(max(self.start_last, self.state.committed))\n",
        network(3),
    ),
    Mutant(
        "older-view-counts",
        "Messages of an older view do not count",
        _GATE,
        "older: Action = Action.IGNORE,",
        "older: Action = Action.COUNT,",
        network(3, "--protocol", "multipaxos"),
    ),
    Mutant(
        "higher-view-counts",
        "Messages of a higher view count only after this replica has entered it",
        _GATE,
        "higher: Action = Action.ASK,",
        "higher: Action = Action.COUNT,",
        network(3, "--protocol", "multipaxos"),
    ),
    Mutant(
        "view-left-and-still-counted",
        "A replica that has left a view takes no part in its normal operation",
        _GROUP,
        "IN_VIEW = (Status.NORMAL, Status.REPAIRING)",
        "IN_VIEW = (Status.NORMAL, Status.REPAIRING, Status.VIEW_CHANGE)",
        network(3),
    ),
)
