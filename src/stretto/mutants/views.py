"""Bugs in view changes, and in the merge of logs."""

from __future__ import annotations

from stretto.mutants.hunters import network, walks
from stretto.mutants.mutant import Mutant

_MERGING = "stretto.replication.merging"
_RECONCILE = "stretto.protocols.speculative.reconcile"
_PEER = "stretto.replication.peer"
_VIEWS = "stretto.replication.views"

MUTANTS = (
    Mutant(
        "committed-by-a-minority",
        "The log that a view starts with is committed when a majority has entered the view",
        _VIEWS,
        "if self.start_tip > self.state.committed and len(replica.standing(self.entered)) >= self.quorums.majority:",
        "if self.start_tip > self.state.committed and len(replica.standing(self.entered)) >= self.quorums.majority - 1:",
        network(5),
    ),
    Mutant(
        "last-normal-view-from-the-log",
        "last_normal_view is the view last entered, whether or not it has received anything",
        _VIEWS,
        "return DoViewChange(replica.incarnations, replica.view, self.last_normal_view, committed,",
        "view = self.last_normal_view if log.tip > self.start_tip else max(0, self.last_normal_view - replica.n)\n"
        "        return DoViewChange(replica.incarnations, replica.view, view, committed,",
        walks("operations=3,views=6,timers=12"),
    ),
    Mutant(
        "vote-with-part-of-the-log",
        "A vote has every entry after the committed position",
        _VIEWS,
        "entries = tuple(log.entries(committed + 1))\n",
        "entries = tuple(log.entries(committed + 1))[:5]\n",
        network(5),
    ),
    Mutant(
        "merge-support-too-large",
        "⌈f/2⌉+1 of f+1 logs are enough to keep an entry in its place",
        _RECONCILE,
        "min(merge_support, len(candidates))",
        "min(merge_support + 1, len(candidates))",
        network(5),
    ),
    Mutant(
        "merge-support-too-small",
        "⌈f/2⌉+1 of f+1 logs are needed to keep an entry in its place",
        _RECONCILE,
        "min(merge_support, len(candidates))",
        "min(merge_support - 1, len(candidates))",
        network(5),
    ),
    Mutant(
        "merge-of-more-than-a-majority",
        "Exactly f+1 votes are merged",
        _VIEWS,
        """\
        if index in voters and len(voters) >= self.quorums.majority and self.merging is None:
            others = [voter for voter in sorted(voters) if voter != index][: self.quorums.f]
            self.merging = {voter: self.votes[voter] for voter in [index, *others]}
            self._merge()

    def _merge(self) -> None:
        \"""Merge exactly f+1 logs, once we have all that is committed in any of them, and start the view with the result.\"""
        replica = self.replica
        assert self.merging is not None
        assert len(self.merging) == self.quorums.majority
""",
        """\
        if index in voters and len(voters) > self.quorums.majority and self.merging is None:
            self.merging = {voter: self.votes[voter] for voter in voters}
            self._merge()

    def _merge(self) -> None:
        replica = self.replica
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
        "The log before a view's commit base is compared by hash, and fetched if it differs",
        _PEER,
        "        if self.state.log.matches(position, summary):\n            self.state.commit_up_to(position)\n            return True\n",
        "        if self.state.log.tip >= position:\n            self.state.commit_up_to(position)\n            return True\n",
        network(3),
    ),
    Mutant(
        "older-view-entered",
        "A replica that has left for a view enters no older one",
        _VIEWS,
        """\
        if message.view < replica.view:
            return replica.ignore("of an older view")
        if message.view == replica.view and self.status is Status.NORMAL:
""",
        """\
        if message.view < replica.view and self.status is Status.VIEW_CHANGE:
            replica.view = message.view
        if message.view <= replica.view and self.status is Status.NORMAL:
""",
        network(3),
    ),
    Mutant(
        "view-entered-twice",
        "A replica that is in a view ignores its StartView",
        _VIEWS,
        "        if message.view == replica.view and self.status is Status.NORMAL:\n"
        '            return replica.ignore("the view has been entered")\n',
        "",
        network(3),
    ),
    Mutant(
        "view-committed-as-it-has-grown",
        "A majority in a view commits the log that the view started with, not the log as it has grown",
        _VIEWS,
        "            self.state.commit_up_to(self.start_tip)\n"
        "            replica.send_to_peers(Commit(replica.incarnations, replica.view, self.start_tip, self.start_hash))\n",
        "            log = self.state.log\n"
        "            self.state.commit_up_to(log.tip)\n"
        "            replica.send_to_peers(Commit(replica.incarnations, replica.view, log.tip, log.tip_hash))\n",
        network(3),
    ),
)
