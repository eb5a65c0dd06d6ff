"""The gate: one table that says which messages count, applied before any handler.

It checks, in this order: the sender, the number of replicas that it assumes, whether this replica is in service, the incarnations, whether
the message is for the leader, the view, the status. A handler may rely on all of this, and checks only the content. Two messages count in
views that are not this replica's: a StartView of a higher view, and a GetStartView of any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from stretto.core.node import Address, Busy, Message
from stretto.replication.group import ANY_STATUS, ENTERED, HAS_STATE, IN_SERVICE, IN_VIEW, NORMAL, Group, Status
from stretto.replication.messages import (
    Bootstrap,
    BootstrapReply,
    CheckpointChunk,
    CodeVersion,
    Commit,
    CompareOutcomes,
    DoViewChange,
    Entries,
    EntriesCompacted,
    Fetch,
    FetchCheckpoint,
    Forward,
    GetIncarnations,
    GetLog,
    GetStartView,
    GetTime,
    GetWritten,
    Heartbeat,
    IncarnationsReply,
    Outcomes,
    PeerMessage,
    Prepare,
    PrepareOk,
    Recover,
    Remember,
    Request,
    StartView,
    StartViewChange,
    StateDigest,
    Suspect,
    TimeReply,
    Upgrade,
    ViewBegins,
    ViewEntered,
    Written,
    WrittenReply,
)
from stretto.replication.part import Handler


class Sender(Enum):
    """Who sends a message. Addresses below n are replicas; the sequencers' addresses follow; all others are clients."""

    CLIENT = "client"
    SEQUENCER = "sequencer"
    REPLICA = "replica"
    LEADER = "leader of its view"


class Action(Enum):
    """What is done with a message."""

    COUNT = "counts"
    IGNORE = "ignored"
    ASK = "ignored; we ask the sender for its StartView"
    ANSWER = "answered with our StartView, if we are in our view"
    JOIN = "we join the view; then it counts"
    KEEP = "kept until we are NORMAL"


@dataclass(frozen=True, slots=True)
class Rule:
    """When a message counts.

    - `senders`: who may send it; `to_leader`: whether only the leader of the message's view takes it (of our view, if it has none).
    - `statuses`: the statuses in which it counts; `otherwise`: what is done with it in another status.
    - `older`, `higher`: what is done with a message about an older or a higher view than ours; None if it is not compared with our view.
    """

    senders: tuple[Sender, ...]
    statuses: tuple[Status, ...] = IN_VIEW
    to_leader: bool = False
    otherwise: Action = Action.IGNORE
    older: Action | None = None
    higher: Action | None = None


Rules: TypeAlias = dict[type[Message], Rule]

FROM_CLIENT = (Sender.CLIENT,)
FROM_REPLICA = (Sender.REPLICA,)
FROM_LEADER = (Sender.LEADER,)


def in_view(
    senders: tuple[Sender, ...] = FROM_REPLICA,
    statuses: tuple[Status, ...] = IN_VIEW,
    *,
    to_leader: bool = False,
    older: Action = Action.IGNORE,
    higher: Action = Action.ASK,
) -> Rule:
    """The rule of a message that belongs to the normal operation of a view: it counts only in that view."""
    return Rule(senders, statuses, to_leader, older=older, higher=higher)


def in_view_change(*, to_leader: bool = False) -> Rule:
    """The rule of what leads to a view. A sender that is late is told that the view has started."""
    leaving = (Status.VIEW_CHANGE,)
    return Rule(FROM_REPLICA, leaving, to_leader, otherwise=Action.ANSWER, older=Action.ANSWER, higher=Action.JOIN)


REQUEST_RULES: Rules = {Request: Rule(FROM_CLIENT, NORMAL, otherwise=Action.KEEP)}
"""For protocols whose clients send requests to all replicas."""

LEADER_REQUEST_RULES: Rules = {Request: Rule(FROM_CLIENT, NORMAL, to_leader=True, otherwise=Action.KEEP)}
"""For protocols in which only the leader takes requests."""

CLOCK_RULES: Rules = {
    GetTime: Rule((Sender.CLIENT, Sender.REPLICA), ANY_STATUS),
    TimeReply: Rule(FROM_REPLICA, ANY_STATUS),
}
"""For every protocol: the replicas' wall clocks."""

PEER_RULES: Rules = {
    **CLOCK_RULES,
    Fetch: Rule(FROM_REPLICA, IN_SERVICE),
    FetchCheckpoint: Rule(FROM_REPLICA, IN_SERVICE),
    Entries: Rule(FROM_REPLICA, ANY_STATUS),
    CheckpointChunk: Rule(FROM_REPLICA, ANY_STATUS),
    Bootstrap: Rule(FROM_REPLICA, (*HAS_STATE, Status.RECOVERING)),
    BootstrapReply: Rule(FROM_REPLICA, (Status.BOOTSTRAPPING,)),
    GetIncarnations: Rule(FROM_REPLICA, ANY_STATUS),
    IncarnationsReply: Rule(FROM_REPLICA, (Status.LOST_STATE,)),
    Recover: Rule(FROM_REPLICA, ENTERED),
    Suspect: in_view(older=Action.ANSWER),
    StartViewChange: in_view_change(),
    DoViewChange: in_view_change(to_leader=True),
    StartView: Rule(FROM_REPLICA, (Status.BOOTSTRAPPING, Status.RECOVERING, Status.VIEW_CHANGE), older=Action.IGNORE, higher=Action.COUNT),
    GetStartView: Rule(FROM_REPLICA, ENTERED),
    CodeVersion: Rule(FROM_REPLICA, IN_SERVICE),
    Busy: Rule(FROM_REPLICA, IN_SERVICE),
    Remember: Rule(FROM_REPLICA, IN_SERVICE),
    Written: Rule(FROM_REPLICA, IN_SERVICE),
    GetWritten: Rule(FROM_REPLICA, ANY_STATUS),
    WrittenReply: Rule(FROM_REPLICA, (Status.RESUMING,)),
    Upgrade: Rule(FROM_CLIENT, NORMAL, to_leader=True),
    CompareOutcomes: Rule(FROM_REPLICA, IN_SERVICE),
    Outcomes: Rule(FROM_REPLICA, IN_SERVICE),
    StateDigest: Rule(FROM_REPLICA, IN_SERVICE),
    ViewEntered: in_view(statuses=ENTERED, to_leader=True, higher=Action.IGNORE),
    ViewBegins: in_view(FROM_LEADER, (Status.SEALED,)),
}
"""For every protocol with several replicas: state transfer, startup and recovery, view changes."""

LEADER_LOG_RULES: Rules = {
    Prepare: in_view(FROM_LEADER, NORMAL),
    PrepareOk: in_view(to_leader=True),
    Heartbeat: in_view(FROM_LEADER),
    GetLog: in_view(to_leader=True),
    EntriesCompacted: in_view(FROM_LEADER, NORMAL),
    Commit: in_view(FROM_LEADER, NORMAL),
    Forward: in_view(statuses=NORMAL, to_leader=True),
}
"""For protocols whose followers take over their leader's log; see `stretto.replication.leader_log`."""


@dataclass(frozen=True)
class Actions:
    """What the gate calls besides the handlers.

    - `accept` a client's request, `keep` it, or `pass_over` it, since it is for the leader;
    - `ask` a sender for the StartView of its view, `answer` a sender with ours, `join` a view;
    - `learn` the incarnations that a peer knows; `hear`: a peer takes part in our view.
    """

    accept: Callable[[Request], None]
    keep: Callable[[Request], None]
    pass_over: Callable[[Request], None]
    ask: Callable[[Address, int], None]
    answer: Callable[[Address], None]
    join: Callable[[int], None]
    learn: Callable[[tuple[int, ...]], None]
    hear: Callable[[Address], None]


class Gate:
    """Receives every message, and gives it to its handler or treats it as the table says.

    Parameters: `rules`, the protocol's table; `handlers`, one for each message type in the table except Request; `clients_from`, the
    lowest address of a client.
    """

    def __init__(self, group: Group, rules: Rules, handlers: Mapping[type[Message], Handler], clients_from: Address, do: Actions) -> None:
        self._group = group
        self._clients_from = clients_from
        self._do = do
        self._accept = do.accept
        rule = rules.get(Request)
        assert rule is None or (rule.senders, rule.otherwise) == (FROM_CLIENT, Action.KEEP), "`on_message` treats requests only so"
        assert all(rule.otherwise is not Action.KEEP for kind, rule in rules.items() if kind is not Request), "only requests are kept"
        self._request_statuses = () if rule is None else rule.statuses
        self._requests_to_leader = rule is not None and rule.to_leader
        self._entries = {kind: (rule, handlers[kind], issubclass(kind, PeerMessage)) for kind, rule in rules.items() if kind is not Request}

    def on_message(self, source: Address, message: Any) -> None:
        """Give a message to its handler, or treat it as its rule says. Never raises, whatever the message contains."""
        group = self._group
        if type(message) is Request:
            if group.status not in self._request_statuses or source != message.client or source < self._clients_from:
                return self._keep_or_ignore(source, message)
            if self._requests_to_leader and not group.is_leader:
                return self._do.pass_over(message)
            return self._accept(message)
        status = group.status
        entry = self._entries.get(type(message))
        if entry is None:
            return group.ignore("not for a replica")
        rule, handler, is_peer_message = entry
        if not self._may_send(rule.senders, source, message):
            return group.ignore("from a sender that may not send it")
        if is_peer_message and len(message.incarnations) != group.n:
            return group.ignore("of a group of another size")
        if is_peer_message and message.incarnations != group.incarnations and not group.is_of_this_life(message.incarnations):
            return group.ignore("of another life of the cluster")
        if status not in IN_SERVICE and status not in rule.statuses:
            if status is Status.RECOVERING and is_peer_message:
                self._do.learn(message.incarnations)  # a peer that knows a higher incarnation of ours ignores what we ask
            return group.ignore("not in service")
        if is_peer_message:
            if message.incarnations != group.incarnations:
                own = group.incarnation
                self._do.learn(message.incarnations)
                if group.incarnation != own:
                    return group.ignore("knows a later incarnation of ours")
            if message.incarnations[source] != group.incarnations[source]:
                return group.ignore("of an earlier incarnation")
        view = group.view if rule.older is None else message.view
        if rule.to_leader and view % group.n != group.index:
            return group.ignore("not the leader")
        if rule.older is not None:
            if view < group.view:
                return self._otherwise(rule.older, "of an older view", handler, source, message)
            if view > group.view:
                assert rule.higher is not None
                return self._otherwise(rule.higher, "of a higher view", handler, source, message)
        if status not in rule.statuses:
            return self._otherwise(rule.otherwise, f"while {status.value}", handler, source, message)
        if is_peer_message and rule.older is not None and status in IN_VIEW:
            self._do.hear(source)
        return handler(source, message)

    def _keep_or_ignore(self, source: Address, request: Request) -> None:
        """Keep a request that is not accepted now, or ignore it."""
        if not self._request_statuses:
            self._group.ignore("not for a replica")
        elif source != request.client or source < self._clients_from:
            self._group.ignore("request that names another client")
        else:
            self._do.keep(request)

    def _may_send(self, senders: tuple[Sender, ...], source: Address, message: Any) -> bool:
        n = self._group.n
        if source >= self._clients_from:
            return Sender.CLIENT in senders
        if source >= n:
            return Sender.SEQUENCER in senders
        return Sender.REPLICA in senders or (Sender.LEADER in senders and message.view % n == source)

    def _otherwise(self, action: Action, reason: str, handler: Handler, source: Address, message: Any) -> None:
        """Do what the rule says about a message of another view, or in a status in which it does not count."""
        if action is Action.IGNORE:
            return self._group.ignore(reason)
        if action is Action.ANSWER:
            return self._do.answer(source)
        if action is Action.ASK:
            self._group.ignore(reason)
            return self._do.ask(source, message.view)
        if action is Action.JOIN:
            self._do.join(message.view)
        return handler(source, message)
