"""Streams after a network cut of seconds: a peer is reached again at once, and not only at TCP's next retransmission."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic

import pytest

from stretto.runtime.addresses import endpoint_to_int
from stretto.runtime.streams import Streams, frame_prefix
from stretto.torture.namespaces import Network, host_address, replica_port

pytestmark = pytest.mark.xdist_group("namespaces")

CLUSTER = bytes(8)
FRAME = frame_prefix(CLUSTER) + bytes(100_000)


class Owner:
    """Counts the frames that arrive."""

    def __init__(self) -> None:
        self.frames = 0

    def on_frame(self, host: int, frame: bytes) -> None:
        self.frames += 1

    def refuse(self, reason: str) -> None:
        raise AssertionError(reason)

    def answer(self) -> bytes:
        return b""


def listener(network: Network, index: int) -> socket.socket:
    with network.entered(replica_port(index)):
        sock = socket.socket()
    sock.setblocking(False)
    sock.bind((host_address(index), 7000))
    sock.listen()
    return sock


async def until(owner: Owner, frames: int, sender: Streams, endpoint: int, within_s: float) -> float:
    """Send until that many frames have arrived. Returns how long that took, in seconds."""
    began = monotonic()
    while owner.frames < frames:
        assert monotonic() - began < within_s
        sender.send(endpoint, FRAME)
        await asyncio.sleep(0.02)
    return monotonic() - began


def test_a_peer_that_was_cut_off_is_reached_again_at_once(network: Network) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        owner = Owner()
        receiver = Streams(loop, listener(network, 1), CLUSTER, 1 << 28, owner)
        sender = Streams(loop, listener(network, 0), CLUSTER, 1 << 28, Owner())
        endpoint = endpoint_to_int((host_address(1), 7000))
        await until(owner, 3, sender, endpoint, 60)
        for _ in range(5):  # on a busy machine one may take longer
            network.cut("test", [f'oifname "{replica_port(1)}"'])
            sender.send(endpoint, FRAME)
            await asyncio.sleep(1.6)  # TCP by itself tries after 0.2, 0.6, 1.4 and 3 s
            network.mend("test")
            if await until(owner, owner.frames + 1, sender, endpoint, 60) < 1:
                break
        else:
            pytest.fail("never reached again at once")
        sender.close()
        receiver.close()
        await asyncio.sleep(0)

    with network.entered(replica_port(0)):
        asyncio.run(main())
