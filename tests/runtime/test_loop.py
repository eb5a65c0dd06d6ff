"""The loop that serves datagrams inside its selector starves no other work and loses no error."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from stretto.runtime.loop import DatagramLoop


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    here.setblocking(False)
    with here, there:
        yield here, there


def run(loop: DatagramLoop, seconds: float = 60) -> None:
    loop.call_later(seconds, loop.stop)
    loop.run_forever()
    loop.close()


def test_a_flooded_socket_starves_neither_timers_nor_callbacks_nor_streams(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    loop = DatagramLoop()
    there.send(b"never read, so always readable")
    turns = 0
    done: list[str] = []

    def turn() -> None:
        nonlocal turns
        turns += 1
        if turns == 100:
            loop.call_soon(done.append, "soon")
        if turns == 200:
            loop.create_task(answer())
        if turns == 300:
            threading.Thread(target=loop.call_soon_threadsafe, args=(done.append, "thread")).start()

    async def answer() -> None:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"!")
            await reader.readexactly(1)
            writer.close()
        done.append("stream")

    def look() -> None:
        if len(done) == 4:
            loop.stop()
        else:
            loop.call_later(0.001, look)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop.serve(here, turn)
        loop.call_later(0.01, done.append, "timer")
        loop.call_soon(look)
        run(loop)
    assert sorted(done) == ["soon", "stream", "thread", "timer"]
    assert turns >= 300


def test_a_timer_set_in_a_turn_is_not_late(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    loop = DatagramLoop()
    times: list[float] = []

    def turn() -> None:
        here.recv(10)
        times.append(time.monotonic())
        loop.call_later(0.02, fire)

    def fire() -> None:
        times.append(time.monotonic())
        loop.stop()

    loop.serve(here, turn)
    loop.call_later(0.01, there.send, b"x")
    run(loop)
    assert 0.02 <= times[1] - times[0] < 30


def test_an_error_in_a_turn_goes_to_the_handler_and_the_loop_continues(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    loop = DatagramLoop()
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))

    def turn() -> None:
        data = here.recv(10)
        if data == b"end":
            loop.stop()
        raise ValueError(data)

    loop.serve(here, turn)
    there.send(b"one")
    loop.call_later(0.02, there.send, b"end")
    begun = time.monotonic()
    run(loop)
    assert time.monotonic() - begun < 30, "it was not seen that the loop was stopped"
    assert [str(context["exception"]) for context in contexts] == ["b'one'", "b'end'"]


def test_one_turn_serves_all_sockets_of_a_node_until_they_are_unserved(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    loop = DatagramLoop()
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        for sock in pair:
            sock.recv(10)

    there.setblocking(False)
    for sock in pair:
        loop.serve(sock, turn)
        sock.send(b"x")
    loop.call_later(0.05, loop.unserve, here)
    loop.call_later(0.06, there.send, b"unheard")
    run(loop, 0.1)
    assert turns == 1
