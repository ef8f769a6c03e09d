"""A Python kernel inside a world: the host's end of the program in kernel_broker.py."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import signal
from dataclasses import dataclass

from pydantic import BaseModel, NonNegativeInt

from trellis.environments.environment import Environment, Process
from trellis.environments.guest.program import pack as pack_program
from trellis.tools.clip import temporary_folder
from trellis.tools.framed import Framed

MODULES = (
    "trellis.environments.guest.processes",
    "trellis.environments.guest.streams",
    "trellis.tools.frames",
    "trellis.tools.kernel_cells",
    "trellis.tools.kernel_broker",
)
START_TIMEOUT_S = 60.0
GRACE_S = 20.0
"""How long after its deadline a cell may be answered: it is interrupted first, and killed in the end."""
END_TIMEOUT_S = 10.0


class CannotStart(Exception):
    """There is no Python to be had in this world; the text says what it said."""


@dataclass(frozen=True, slots=True)
class CellResult:
    """How a cell ended. `ended` tells how the kernel itself did, if it did: "was killed by SIGSEGV"; `began` is false
    when that was before the cell."""

    ok: bool
    output: bytes = b""
    images: tuple[bytes, ...] = ()
    timed_out: bool = False
    duration_s: float = 0.0
    spilled: tuple[str, ...] = ()
    ended: str = ""
    began: bool = True


class _Answer(BaseModel):
    """What the broker says of a cell, or of the kernel's end."""

    cell: str
    ok: bool = False
    ended: bool = False
    timed_out: bool
    duration_s: float
    spilled: tuple[str, ...]
    output: NonNegativeInt
    images: tuple[NonNegativeInt, ...] = ()

    def result(self, payload: bytes, name: str, ended: str = "") -> CellResult:
        output, at, images = payload[: self.output], self.output, []
        for size in self.images:
            images.append(payload[at : at + size])
            at += size
        return CellResult(
            self.ok, output, tuple(images), self.timed_out, self.duration_s, self.spilled, ended, self.cell == name
        )


class Kernel:
    """One process that runs cells, one at a time, in a namespace that lasts."""

    def __init__(self, environment: Environment, process: Process) -> None:
        self._memory_mb = environment.spec.resources.memory_mb
        self._broker = Framed(process)

    @classmethod
    async def start(cls, environment: Environment) -> Kernel:
        """Start a kernel; where the world has a warm interpreter, as a fork of it.

        Raises:
            CannotStart: there is no Python 3.8 or later.
            EnvironmentFault: the world is gone.
        """
        program = _program()
        path = f"{await temporary_folder(environment)}/kernel-{hashlib.sha256(program).hexdigest()[:12]}.py"
        try:
            await environment.write_file(path, program)
        except OSError as error:
            raise CannotStart(f"its program cannot be written to {path}: {error.strerror or error}") from None
        # Just this form of command is run in a fork of a warm interpreter by environments that hold one.
        kernel = cls(environment, await environment.open_process(["python3", path], cwd=environment.workdir))
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                if await kernel._broker.receive() is None:
                    result = await kernel._broker.process.wait()
                    raise CannotStart(result.stderr.decode("utf-8", "replace").strip()[-1000:] or "it ended at once")
        except BaseException as error:
            await kernel.close()
            if isinstance(error, TimeoutError):
                raise CannotStart(f"it did not start within {START_TIMEOUT_S:g} s") from None
            if isinstance(error, ValueError):
                raise CannotStart("it talks nonsense") from None
            raise
        return kernel

    async def run(self, name: str, code: str, *, timeout_s: float) -> CellResult:
        """Run a cell; what its tracebacks call it is `name`. After `timeout_s` it is interrupted as by Ctrl-C, and
        killed with the kernel if that does not end it.

        Raises:
            EnvironmentFault: the world is gone.
        """
        try:
            async with asyncio.timeout(timeout_s + GRACE_S):
                await self._broker.send({"cell": name, "limit_s": timeout_s}, code.encode())
                header, payload = await self._broker.receive() or ({}, b"")
                answer = _Answer.model_validate(header) if header else None
        except TimeoutError:
            await self.close()
            return CellResult(False, timed_out=True, duration_s=timeout_s + GRACE_S, ended="did not answer any more")
        except ValueError:  # not the broker's words
            answer = None
        except BaseException:
            await asyncio.shield(self.close())  # a cell whose end nobody waits for must not run on
            raise
        if answer is None:
            return CellResult(False, ended=await self._how_it_ended())
        ended = await self._how_it_ended(timed_out=answer.timed_out) if answer.ended else ""
        return answer.result(payload, name, ended)

    async def close(self) -> None:
        await self._broker.process.close()

    async def _how_it_ended(self, *, timed_out: bool = False) -> str:
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                result = await self._broker.process.wait()
        except TimeoutError:
            return "broke off"
        finally:
            await self.close()
        if result.signal is None:
            return f"ended with exit code {result.exit_code}"
        text = f"was killed by {_signal_name(result.signal)}"
        if result.signal == signal.SIGKILL and not timed_out:
            text += f", as happens to what needs more than the {self._memory_mb:,} MB of memory there are"
        return text


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@functools.cache
def _program() -> bytes:
    return pack_program(MODULES).encode()
