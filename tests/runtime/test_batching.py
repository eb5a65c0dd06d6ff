"""The same tests for the batched socket calls and for the plain implementation."""

from __future__ import annotations

import gc
import random
import select
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from stretto.runtime import batching
from stretto.runtime.addresses import endpoint_to_int

FORMS: list[tuple[type[batching.PlainReceiver], batching.Send]] = [(batching.PlainReceiver, batching.plain_send_many)]
if batching.BATCHED:
    FORMS.append((batching.Receiver, batching.send_many))


@pytest.fixture(params=FORMS, ids=lambda form: form[0].__module__)
def form(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        for sock in (one, other):
            sock.bind(("127.0.0.1", 0))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        yield one, other


def drain(receiver: Any, sock: socket.socket) -> list[tuple[int, bytes]]:
    datagrams: list[tuple[int, bytes]] = []
    while select.select([sock], [], [], 0)[0]:
        datagrams += receiver.receive()
    return datagrams


def address(sock: socket.socket) -> int:
    return endpoint_to_int(sock.getsockname())


def test_datagrams_arrive_in_order_with_their_source(form: Any, sockets: tuple[socket.socket, socket.socket]) -> None:
    make_receiver, send_many = form
    one, other = sockets
    rng = random.Random(7)
    sent = [rng.randbytes(rng.choice((0, 1, 60, 1_472))) for _ in range(200)]
    assert send_many(one, [(address(other), data) for data in sent]) == len(sent)
    receiver = make_receiver(other, 16, 1_472)
    first = receiver.receive()
    assert len(first) == 16
    assert [*first, *drain(receiver, other)] == [(address(one), data) for data in sent]
    assert receiver.receive() == []


def test_a_long_datagram_is_cut_and_the_next_one_is_intact(form: Any, sockets: tuple[socket.socket, socket.socket]) -> None:
    make_receiver, send_many = form
    one, other = sockets
    assert send_many(one, [(address(other), bytes(range(256))), (address(other), b"next")]) == 2
    assert drain(make_receiver(other, 4, 100), other) == [(address(one), bytes(range(100))), (address(one), b"next")]


def test_datagrams_that_cannot_be_sent_are_skipped(form: Any, sockets: tuple[socket.socket, socket.socket]) -> None:
    make_receiver, send_many = form
    one, other = sockets
    good = address(other)
    port_0 = good >> 16 << 16
    broadcast = 0xFFFFFFFF << 16 | 9
    hopeless = [(port_0, b"x"), (broadcast, b"x"), (good, bytes(70_000)), (-1, b"x"), (1 << 48, b"x"), (1 << 80, b"x")]
    datagrams = [datagram for number, bad in enumerate(hopeless * 30) for datagram in (bad, (good, b"%d" % number))]
    assert send_many(one, datagrams) == len(hopeless) * 30
    assert [data for _, data in drain(make_receiver(other, 64, 100), other)] == [b"%d" % number for number in range(len(hopeless) * 30)]
    assert send_many(one, []) == 0
    assert send_many(one, [(-1, b"x")]) == 0


def test_wrong_use_is_an_error(form: Any, sockets: tuple[socket.socket, socket.socket]) -> None:
    make_receiver, send_many = form
    one, other = sockets
    for wrong in (["text"], [(1,)], [("text", b"")], [(address(other), "text")]):
        with pytest.raises((TypeError, ValueError)):
            send_many(one, wrong)
    receiver = make_receiver(other, 4, 100)
    one.close()
    other.close()
    with pytest.raises((OSError, ValueError)):
        receiver.receive()
    with pytest.raises(ValueError, match=r"-1|closed"):
        send_many(one, [(1 << 40, b"x")])


def test_no_memory_leaks(form: Any, sockets: tuple[socket.socket, socket.socket]) -> None:
    make_receiver, send_many = form
    one, other = sockets
    payload = bytes(bytearray(50))
    wrong: list[Any] = [(address(other), payload), "wrong"]

    def work() -> None:
        for _ in range(200):
            send_many(one, [(address(other), payload), (-1, payload)])
            with pytest.raises((TypeError, ValueError)):
                send_many(one, wrong)
            drain(make_receiver(other, 8, 100), other)
        gc.collect()

    work()
    references, blocks = sys.getrefcount(payload), sys.getallocatedblocks()
    work()
    assert sys.getrefcount(payload) == references
    assert sys.getallocatedblocks() < blocks + 50


@pytest.mark.skipif(not batching.BATCHED, reason="the extension was not built")
def test_a_receiver_checks_its_arguments(sockets: tuple[socket.socket, socket.socket]) -> None:
    for wrong in ((sockets[0], 0, 100), (sockets[0], 5_000, 100), (sockets[0], 4, 0), (sockets[0], 4, 70_000)):
        with pytest.raises(ValueError, match="must be 1 to"):
            batching.Receiver(*wrong)
    unusable: tuple[Any, int, int]
    for unusable in (("text", 4, 100), (None, 4, 100)):
        with pytest.raises(TypeError):
            batching.Receiver(*unusable).receive()
