"""A protocol that is small enough for a quick search, in variants with bugs.

    client ---Request---> r0 ---Order(position, committed)---> others ---Ack(position)---> r0    commits with a majority, and replies

r0 leads for ever. A replica that crashes restarts empty, and there is no recovery: with crashes, the protocol is wrong.
"""

from __future__ import annotations

from typing import Any

from stretto.core.config import ClusterConfig
from stretto.core.node import Message, Port
from stretto.core.protocol import ProtocolDefinition, Start
from stretto.core.state_machine import StateMachine
from stretto.replication.client import Call, SessionClient
from stretto.replication.messages import Request
from stretto.replication.state import ReplicatedState


class Order(Message, frozen=True, array_like=True, tag=16, gc=False):
    """r0 to the others: the entry at a position, and what is committed."""

    position: int
    committed: int
    request: Request


class Ack(Message, frozen=True, array_like=True, tag=17, gc=False):
    """Another replica to r0: it has the entries up to a position."""

    position: int


class Reply(Message, frozen=True, array_like=True, tag=18, gc=False):
    """r0 to a client."""

    session: int
    number: int
    result: bytes


class ToyReplica:
    """`acks`: the position up to which each replica has acknowledged."""

    majority = 2
    view = 0
    leader = 0

    def __init__(self, port: Port, config: ClusterConfig, index: int, machine: StateMachine, start: Start) -> None:
        self.port = port
        self.index = index
        self.state = ReplicatedState(machine, config.limits.max_sessions, config.limits.checkpoint_operations)
        self.acks = dict.fromkeys(range(1, config.n), 0)
        if index == 0:
            port.set_timer("tell", 1)

    def on_message(self, source: int, message: Any) -> None:
        if isinstance(message, Request):
            self.on_request(source, message)
        elif isinstance(message, Order):
            self.on_order(source, message)
        else:
            self.on_ack(source, message)

    def on_request(self, source: int, request: Request) -> None:
        record = self.state.sessions.record_for(request)
        if self.index == 0 and (record is None or request.number > record.number):
            self.state.append(request)
            self.tell(self.state.log.last)

    def tell(self, position: int) -> None:
        for peer in self.acks:
            self.port.send(peer, Order(position, self.state.committed, self.state.log.entry_at(position)))

    def on_timer(self, name: str) -> None:
        self.port.set_timer("tell", 1)
        self.tell(self.state.log.last)

    def on_order(self, source: int, order: Order) -> None:
        if order.position == self.state.log.last + 1:
            self.state.append(order.request)
            self.port.send(0, Ack(self.state.log.last))
        self.state.commit_up_to(max(self.state.committed, min(order.committed, self.state.log.last)))

    def on_ack(self, source: int, ack: Ack) -> None:
        self.acks[source] = max(self.acks[source], ack.position)
        while (
            self.state.committed < self.state.log.last
            and 1 + sum(acked > self.state.committed for acked in self.acks.values()) >= self.majority
        ):
            self.commit_next()

    def commit_next(self) -> None:
        self.state.commit_up_to(self.state.committed + 1)
        request, result = self.state.log.entry_at(self.state.committed), self.state.result_at(self.state.committed)
        if result is not None:
            self.port.send(request.client, Reply(request.session, request.number, result))

    def snapshot(self) -> Any:
        log = self.state.log
        return [self.state.committed, log.last_hash.hex(), self.state.snapshot(), sorted(self.acks.items())]

    def metrics(self) -> dict[str, Any]:
        return {"status": "normal"}

    def check_invariants(self) -> None:
        self.state.check_invariants()


class AllMustAcknowledge(ToyReplica):
    """Commits only with all three. So there are silent steps: an acknowledgement that is not the last one."""

    majority = 3


class FollowersTakeRequestsThemselves(ToyReplica):
    """A follower appends clients' requests in the order of their arrival."""

    def on_request(self, source: int, request: Request) -> None:
        super().on_request(source, request)
        record = self.state.sessions.record_for(request)
        if self.index and (record is None or request.number > record.number):
            self.state.append(request)
            self.port.send(0, Ack(self.state.log.last))

    def on_order(self, source: int, order: Order) -> None:
        self.state.commit_up_to(max(self.state.committed, min(order.committed, self.state.log.last)))


class RepliesAtOnce(ToyReplica):
    """r0 replies when it has appended, and takes the last entry back when its timer fires."""

    def on_request(self, source: int, request: Request) -> None:
        before = self.state.log.last
        super().on_request(source, request)
        if self.state.log.last > before:
            result = self.state.result_at(self.state.log.last)
            assert result is not None
            self.port.send(request.client, Reply(request.session, request.number, result))

    def on_timer(self, name: str) -> None:
        super().on_timer(name)
        if self.state.committed < self.state.log.last:
            self.state.roll_back_to(self.state.committed)


class ForgetsToUndo(RepliesAtOnce):
    """Entries that are taken back are not undone in the state machine."""

    def on_timer(self, name: str) -> None:
        if self.state.committed < self.state.log.last:
            self.state._machine_undos = [None for _ in self.state._machine_undos]
        super().on_timer(name)


class CommitsNothing(ToyReplica):
    """Waits for more acknowledgements than there are replicas."""

    majority = 4


class CannotBeCopied(ToyReplica):
    """Has a closure, which no copy can have."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.closure = lambda: self.index


class ToyClient(SessionClient):
    """Multicasts its requests; the first reply is the answer."""

    def transmit(self, call: Call) -> None:
        self.port.multicast(call.request)

    def on_message(self, source: int, message: Any) -> None:
        call = self.find(message.session, message.number)
        if call is not None:
            self.finish(call, message.result)


def toy(replica: type[ToyReplica] = ToyReplica) -> ProtocolDefinition:
    """The protocol, with this kind of replica."""
    return ProtocolDefinition("toy", (Request, Order, Ack, Reply), (), replica, ToyClient)
