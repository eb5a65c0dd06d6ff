"""The process of the controller, which controls the switches and answers commands."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Any

import msgspec

from stretto.core.errors import ConfigurationError, StrettoError
from stretto.testbed.commands import LONGEST_LINE_BYTES, Command, Events, Installed, SetDesign, SetGroups, Status, Verify
from stretto.testbed.control import TestbedController
from stretto.testbed.plan import Plan


async def serve(plan: Plan) -> None:
    """Control a testbed until SIGTERM or SIGINT. The socket is created when all switches that were found have their tables.

    Raises ConfigurationError if a switch has too many ports, StrettoError if another controller uses the socket.
    """
    controller = TestbedController(plan)
    ready, ended = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError), contextlib.closing(writer):  # ValueError: the line is too long
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await _answer(controller, line)) + b"\n")
                await writer.drain()

    async def listen() -> None:
        await ready.wait()
        plan.controller_socket.unlink(missing_ok=True)
        async with await asyncio.start_unix_server(converse, plan.controller_socket, limit=LONGEST_LINE_BYTES):
            await ended.wait()
        plan.controller_socket.unlink(missing_ok=True)

    await _refuse_second_controller(plan)
    controlling = asyncio.create_task(controller.run(ready))
    listening = asyncio.create_task(listen())
    done, _ = await asyncio.wait((controlling, listening), return_when=asyncio.FIRST_COMPLETED)
    controlling.cancel()
    for task in done:
        task.result()


async def _refuse_second_controller(plan: Plan) -> None:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_unix_connection(plan.controller_socket)
        writer.close()
        raise StrettoError(f"another controller already listens at {plan.controller_socket}")


async def _answer(controller: TestbedController, line: bytes) -> dict[str, Any]:
    try:
        return {"done": await _carry_out(controller, msgspec.json.decode(line, type=Command))}
    except (msgspec.DecodeError, ConfigurationError) as error:
        return {"error": str(error)}
    except StrettoError as error:
        return {"failure": str(error)}


async def _carry_out(controller: TestbedController, command: Command) -> Any:
    match command:
        case SetDesign(design):
            return await controller.set_design(design)
        case SetGroups(groups):
            return await controller.set_groups(groups)
        case Status():
            return controller.status()
        case Verify():
            return await controller.verify()
        case Events(since):
            return controller.events(since)
        case Installed():
            return await controller.installed()
