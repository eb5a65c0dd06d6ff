"""The calls of one client process: sessions, retransmission, timeouts. A protocol adds where requests go and when an answer counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

import msgspec

from stretto.core.config import ClusterConfig
from stretto.core.errors import ClusterReset, ClusterUnavailable, RequestTimeout, RequestTooLarge, SessionExpired, StrettoError
from stretto.core.node import Address, Done, Message, Port
from stretto.replication.clock import INTERVAL_NS, ClockSamples
from stretto.replication.messages import OPEN_SESSION, GetTime, OtherLife, Reply, Request, TimeReply
from stretto.replication.sessions import session_from_result, share_life

_TICKS_PER_RETRANSMIT = 4
_MAX_BACKOFF = 32
_NONCE_BITS = 63
_ENTROPY_BITS = 32


class Tally(Protocol):
    """A protocol's record of the replies to one request. All are of one view: replies of different views never count together."""

    @property
    def view(self) -> int:
        """The view of the replies."""

    def snapshot(self) -> Any:
        """The replies as canonical plain data."""


class Call(msgspec.Struct, eq=False):
    """One outstanding request.

    `waiting`, if the request opens a session: the operation that will be sent in that session, and its time;
    `tally`: the protocol's record of the replies, None before the first; `answered`: whether some replica has answered;
    `opened`: the result of a request that opens a session, while the call waits for the cluster's time;
    `other_life`: the replicas, as bits, that have said that the session is of another life of the cluster.
    """

    request: Request
    done: Done
    deadline_ns: int
    next_transmission: int
    waiting: tuple[bytes, int | None] | None = None
    backoff: int = 1
    tally: Any = None
    answered: bool = False
    opened: bytes | None = None
    other_life: int = 0


class SessionClient(ABC):
    """The client of any protocol whose replicas keep sessions.

    Each call takes an idle session, or opens one: a session has one request outstanding at a time. Retransmissions are counted in ticks of
    one timer, which runs while calls are outstanding. Ticks may be late; a call's deadline is kept by the clock.

    Invariants: a session is idle or has exactly one call; a call is in `_calls` from its beginning until its `done` is called.
    """

    new_tally: ClassVar[type[Any]]
    """Makes an empty tally for the view of the given reply. For a protocol that counts replies."""

    def __init__(self, port: Port, config: ClusterConfig) -> None:
        self.port = port
        self.n = config.n
        self._address = port.address
        self._max_request_bytes = config.limits.max_request_bytes
        self._tick_ns = max(1, config.timeouts.ns("client_retransmit") // _TICKS_PER_RETRANSMIT)
        self._timeout_ns = config.timeouts.ns("request_timeout")
        self._tick = 0
        self._ticking = False
        self._random_bits = port.random.getrandbits
        self._clocks = ClockSamples(config.n // 2 + 1)
        self._asks_time = False
        self._next_question_ns = port.now_ns
        self._idle: list[tuple[int, int]] = []  # session and its last request number; the most recently used is the next to go
        self._calls: dict[int, Call] = {}  # by session; those that open one by the nonce's complement, which is negative
        self._completed = 0
        self._retransmissions = 0
        self._failures: dict[str, int] = {}
        self._ignored: dict[str, int] = {}

    # What a protocol adds

    @abstractmethod
    def transmit(self, call: Call) -> None:
        """Send the call's request to the replicas that should get it; called again at each retransmission."""

    @abstractmethod
    def on_message(self, source: int, message: Any) -> None:
        """Count an answer, and `finish` the call when it is decided."""

    # Calls

    def call(self, operation: bytes, time_ns: int | None, done: Done, timeout_ns: int | None = None) -> None:
        """Replicate `operation`; see `stretto.core.node.Client`."""
        now_ns = self.port.now_ns
        deadline_ns = now_ns + (self._timeout_ns if timeout_ns is None else timeout_ns)
        if len(operation) > self._max_request_bytes:
            reason = f"an operation of {len(operation)} bytes; max_request_bytes is {self._max_request_bytes}"
            self._fail(done, RequestTooLarge(reason))
        elif self._idle:
            session, number = self._idle.pop()
            if time_ns is None:
                time_ns = now_ns + self._clocks.offset_ns
            request = Request(self._address, session, number + 1, time_ns, self._random_bits(_ENTROPY_BITS), operation)
            self._begin(session, request, done, deadline_ns)
        else:
            self._open(operation, time_ns, done, deadline_ns)

    def _open(self, operation: bytes, time_ns: int | None, done: Done, deadline_ns: int) -> None:
        nonce = self._random_bits(_NONCE_BITS)
        if time_ns is None:
            self._ask_time()
        request = Request(self._address, OPEN_SESSION, nonce, time_ns or 0, 0, b"")
        self._begin(~nonce, request, done, deadline_ns, (operation, time_ns))

    def _begin(self, key: int, request: Request, done: Done, deadline_ns: int, waiting: tuple[bytes, int | None] | None = None) -> None:
        if not self._ticking:
            self._ticking = True
            self.port.set_timer("tick", self._tick_ns)
        self._calls[key] = call = Call(request, done, deadline_ns, self._tick + _TICKS_PER_RETRANSMIT, waiting)
        self.transmit(call)

    def find(self, session: int, number: int) -> Call | None:
        """The outstanding call of this request; None if it has ended."""
        call = self._calls.get(session or ~number)
        return call if call is not None and call.request.number == number else None

    def open_tally(self, message: Any, is_final: bool) -> Call | None:
        """The outstanding call that a reply is for, with the tally of the reply's view. A reply of a higher view starts a new tally.

        None if the reply does not count, or if it is final and has completed the call by itself.
        """
        call = self._calls.get(message.session or ~message.number)
        if call is None or call.request.number != message.number:
            self.ignore("answer to a finished call")
            return None
        if is_final:
            self.finish(call, message.result)
            return None
        tally, view = call.tally, message.view
        if tally is None or view > tally.view:
            call.answered = True
            call.tally = self.new_tally(message)
        elif view < tally.view:
            self.ignore("of an older view")
            return None
        return call

    def finish(self, call: Call, result: bytes | None) -> None:
        """The call is decided: `result`, or None if the replicas do not have its session."""
        request = call.request
        session = request.session
        if session == OPEN_SESSION:
            assert call.waiting is not None
            operation, time_ns = call.waiting
            if result is not None and time_ns is None and not self._clocks.known:
                call.opened = result  # `_take_time` goes on
                return
            del self._calls[~request.number]
            if result is None:
                self._open(operation, time_ns, call.done, call.deadline_ns)
            else:
                opened = session_from_result(result)
                if opened in self._calls:
                    self._end_session(opened)  # this name belongs to another session now, so the cluster was started anew
                if time_ns is None:
                    time_ns = self.port.now_ns + self._clocks.offset_ns
                first = Request(self._address, opened, 1, time_ns, self._random_bits(_ENTROPY_BITS), operation)
                self._begin(opened, first, call.done, call.deadline_ns)
        elif result is None:
            del self._calls[session]
            self._fail(call.done, SessionExpired("the replicas have dropped the session; the operation may have happened before they did"))
        else:
            del self._calls[session]
            self._idle.append((session, request.number))
            self._completed += 1
            call.done(result)

    # The cluster's time

    def _ask_time(self) -> None:
        """Ask the replicas for their clocks, from time to time."""
        now_ns = self.port.now_ns
        self._asks_time = True
        if now_ns >= self._next_question_ns:
            self._next_question_ns = now_ns + (INTERVAL_NS if self._clocks.known else self._tick_ns)
            for replica in range(self.n):
                self.port.send(replica, GetTime(now_ns))

    def _take_time(self, source: int, message: TimeReply) -> None:
        """Take a replica's clock. Calls whose session is open may have waited for it."""
        self._clocks.add(source, message.sent_ns, message.wall_ns, self.port.now_ns)
        if self._clocks.known:
            for call in [call for call in self._calls.values() if call.opened is not None]:
                self.finish(call, call.opened)

    # A cluster that was started anew

    def on_other_message(self, source: int, message: Any) -> None:
        """Handle what is no reply: a replica says that a session is of another life of the cluster. f+1 of them are believed."""
        if type(message) is TimeReply and source < self.n:
            return self._take_time(source, message)
        if type(message) is not OtherLife or source >= self.n:
            return self.ignore("not for a client")
        call = self.find(message.session, message.number)
        if call is None:
            return self.ignore("answer to a finished call")
        call.answered = True
        call.other_life |= 1 << source
        if call.other_life.bit_count() > self.n // 2:
            self._forget_other_life(call.request.session)
        return None

    def _forget_other_life(self, session: int) -> None:
        """The cluster was started anew, empty, since this session was opened: so was every other session whose name shows the same life."""
        self._end_session(session)
        self._idle = [(idle, number) for idle, number in self._idle if not share_life(idle, session)]
        for call in self._calls.values():
            call.tally = None  # the views of a new life begin at 0
        self.forget_views()

    def forget_views(self) -> None:  # noqa: B027, a hook that not every protocol needs
        """Forget which view the cluster is in."""

    def _end_session(self, session: int) -> None:
        """End the call of a session that the cluster does not have any more."""
        call = self._calls.pop(session)
        self._fail(call.done, ClusterReset("the cluster was started anew, empty, since this call; the operation may have happened before"))

    def _fail(self, done: Done, error: StrettoError) -> None:
        name = type(error).__name__
        self._failures[name] = self._failures.get(name, 0) + 1
        done(error)

    # Time

    def on_timer(self, name: str) -> None:
        """Retransmit requests that have not been answered in time, and end calls whose deadline has passed."""
        self._tick += 1
        if self._asks_time:
            self._ask_time()
        tick, now_ns = self._tick, self.port.now_ns
        late = [call for call in self._calls.values() if tick >= call.next_transmission or now_ns >= call.deadline_ns]
        for call in late:
            if now_ns >= call.deadline_ns:
                self._time_out(call)
            else:
                call.backoff = min(2 * call.backoff, _MAX_BACKOFF)
                call.next_transmission = self._tick + self.port.random.randint(1, _TICKS_PER_RETRANSMIT) * call.backoff
                self._retransmissions += 1
                self.transmit(call)
        self._ticking = bool(self._calls)
        if self._ticking:
            self.port.set_timer("tick", self._tick_ns)

    def _time_out(self, call: Call) -> None:
        request = call.request
        if request.session == OPEN_SESSION:
            del self._calls[~request.number]
            uncertainty = "the operation was not sent"
        else:
            del self._calls[request.session]
            self._idle.append((request.session, request.number))
            uncertainty = "the operation may have happened, may happen yet, or never"
        if call.answered:
            self._fail(call.done, RequestTimeout(f"no quorum of replicas answered in time; {uncertainty}"))
        else:
            self._fail(call.done, ClusterUnavailable(f"no replica answered; {uncertainty}"))

    # Watching

    def ignore(self, reason: str) -> None:
        """Count a message that changed nothing."""
        self._ignored[reason] = self._ignored.get(reason, 0) + 1

    def metrics(self) -> dict[str, Any]:
        """Counters of calls."""
        return {
            "outstanding": len(self._calls),
            "completed": self._completed,
            "failures": dict(self._failures),
            "retransmissions": self._retransmissions,
            "sessions": len(self._idle) + sum(key > 0 for key in self._calls),
            "ignored_messages": dict(self._ignored),
        }

    def snapshot(self) -> Any:
        """Sessions and calls as canonical plain data."""
        calls = [self._call_snapshot(call) for _, call in sorted(self._calls.items())]
        clocks = [self._asks_time, self._clocks.offsets_ns(), self.port.now_ns >= self._next_question_ns]
        return msgspec.to_builtins({"idle": sorted(self._idle), "calls": calls, "clocks": clocks})

    def _call_snapshot(self, call: Call) -> list[Any]:
        times = [call.backoff, call.next_transmission - self._tick, self.port.now_ns >= call.deadline_ns]
        return [call.request, call.waiting, call.answered, call.opened, call.other_life, *times, call.tally and call.tally.snapshot()]

    def check_invariants(self) -> None:
        """A session is idle or busy, never both; the timer runs while a call is outstanding."""
        idle = [session for session, _ in self._idle]
        assert len(set(idle)) == len(idle)
        assert not set(idle) & set(self._calls)
        assert all(key == (call.request.session or ~call.request.number) for key, call in self._calls.items())
        assert self._ticking or not self._calls


class LeaderClient(SessionClient):
    """The client of a protocol in which one answer, the leader's, completes a call.

    Parameters: `to_all`, whether requests go to all replicas at once. If not, a request goes to the leader of the highest view that the
    client knows, and to all replicas if no answer comes. A new leader then answers, and its answer makes its view known to the client.
    """

    def __init__(self, port: Port, config: ClusterConfig, to_all: bool = False) -> None:
        super().__init__(port, config)
        self._to_all = to_all
        self._view = 0

    def transmit(self, call: Call) -> None:
        """See `SessionClient`."""
        if self._to_all or call.backoff > 1:
            self.port.multicast(call.request)
        else:
            self.port.send(self._view % self.n, call.request)

    def on_message(self, source: Address, message: Message) -> None:
        """Finish the call that this message answers."""
        if type(message) is not Reply or source >= self.n:
            return self.on_other_message(source, message)
        self._view = max(self._view, message.view)
        call = self.find(message.session, message.number)
        if call is None:
            return self.ignore("answer to a finished call")
        return self.finish(call, message.result)

    def forget_views(self) -> None:
        """See `SessionClient`."""
        self._view = 0

    def snapshot(self) -> Any:
        """Sessions, calls and view as canonical plain data."""
        return {**super().snapshot(), "view": self._view}
