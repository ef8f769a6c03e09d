"""`python`: cells in a kernel whose state lasts between calls, and scripts in fresh interpreters."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from trellis.environments.environment import Environment, ExecResult
from trellis.models.messages import Image
from trellis.tools.arguments import Seconds, String
from trellis.tools.clip import presentable
from trellis.tools.images import add
from trellis.tools.kernel import CannotStart, CellResult, Kernel
from trellis.tools.tool import FunctionTool, Output, ToolError, tool

SHOWN_AS = "script.py"


@dataclass
class _Session:
    """The kernel of one world, and the lock that keeps its cells one after the other."""

    kernel: Kernel | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    cells: Iterator[int] = field(default_factory=lambda: itertools.count(1))


class PythonTool:
    """One kernel per world, started when it is first used; the world closes it.

    Scripts lie in the workdir, under a hidden name, while they run: there `import` finds what lies beside them.
    """

    def __init__(self) -> None:
        self._count = itertools.count(1)
        self._sessions: WeakKeyDictionary[Environment, _Session] = WeakKeyDictionary()

    def remembers(self, environment: Environment) -> bool:
        """Did it have a kernel here?"""
        return environment in self._sessions

    async def python(
        self,
        environment: Environment,
        code: String,
        timeout_s: Seconds = 600,
        reset: bool = False,
        fresh: bool = False,
    ) -> Output:
        """Run Python 3 code as a cell: variables, functions and imports last from one call to the next. You see what
        it prints and the value of its last expression; tables come as text, figures of matplotlib as images. `await`
        works at the top level. The current folder is the workdir at first. There is no input and no `!` or `%`.
        Long output is cut in the middle and kept whole in a file. A module that was imported stays as it was when its
        file changes: use importlib.reload, or reset.

        Args:
            code: the cell.
            timeout_s: seconds after which the cell is interrupted; variables are kept if that ends it.
            reset: forget all variables first, and begin in a new kernel.
            fresh: run the code as a whole script in an interpreter of its own instead; nothing lasts but the files it
                writes, and the value of the last expression is not shown.
        """
        if fresh:
            return await self._script(environment, code, timeout_s)
        session = self._sessions.setdefault(environment, _Session())
        async with session.lock:
            return await self._cell(environment, session, code, timeout_s, reset)

    async def _cell(
        self, environment: Environment, session: _Session, code: str, timeout_s: float, reset: bool
    ) -> Output:
        if reset and session.kernel is not None:
            await session.kernel.close()
            session.kernel = None
        name, remarks = f"cell {next(session.cells)}", []
        result = await _run(environment, session, name, code, timeout_s)
        restarted = bool(result.ended)
        if not result.began:
            remarks.append(
                f"[since the last cell the kernel {result.ended}. This cell ran in a new one: "
                "earlier variables are gone]"
            )
            result = await _run(environment, session, name, code, timeout_s)
        text = await presentable(environment, result.output, spilled=result.spilled)
        facts = {
            "ok": result.ok,
            "timed_out": result.timed_out,
            "restarted": restarted or bool(result.ended),
            "duration_s": result.duration_s,
        }
        images: list[Image] = []
        left_out = [add(images, "an image", png) for png in result.images]
        shown = "\n".join(filter(None, [text, *left_out, *remarks, *_cell_remarks(result, timeout_s)]))
        return Output(shown or ("" if images else "(no output)"), tuple(images), data=facts)

    async def _script(self, environment: Environment, code: str, timeout_s: float) -> Output:
        path = f"{environment.workdir.rstrip('/')}/.script-{next(self._count)}.py"
        try:
            await environment.write_file(path, code.encode())
        except OSError as error:
            raise ToolError(f"the script cannot be written into the workdir: {error.strerror or error}") from None
        try:
            # Just this form of command is run in a fork of a warm interpreter by environments that hold one.
            result = await environment.exec(["python3", path], timeout_s=timeout_s, cwd=environment.workdir)
        finally:
            await environment.exec(["rm", "-f", path], timeout_s=60)
        text = await presentable(environment, _combined(result).replace(path, SHOWN_AS), spilled=result.spilled)
        facts = {
            "exit_code": result.exit_code,
            "timed_out": result.timed_out,
            "duration_s": result.duration_s,
        }
        return Output("\n".join(filter(None, [text, _script_remark(result, timeout_s)])) or "(no output)", data=facts)


async def _run(environment: Environment, session: _Session, name: str, code: str, timeout_s: float) -> CellResult:
    """Run a cell in the session's kernel, which is started if there is none and forgotten if it ended."""
    kernel, session.kernel = session.kernel, None
    try:
        kernel = kernel or await Kernel.start(environment)
    except CannotStart as error:
        raise ToolError(f"there is no Python 3.8 or later to be had here: {error}") from None
    result = await kernel.run(name, code, timeout_s=timeout_s)
    if not result.ended:
        session.kernel = kernel
    return result


def _cell_remarks(result: CellResult, timeout_s: float) -> list[str]:
    remarks = []
    if result.timed_out and result.ended:
        remarks.append(f"[timed out: after {timeout_s:g} s the cell was interrupted, and it did not end]")
    elif result.timed_out:
        remarks.append(f"[timed out: the cell was interrupted after {timeout_s:g} s; variables are kept]")
    if result.ended:
        remarks.append(f"[the kernel {result.ended}. The next cell runs in a new one: all variables are gone]")
    return remarks


def _combined(result: ExecResult) -> str:
    """Standard output, then standard error, which begins on a line of its own."""
    joint = b"\n" if result.stderr and result.stdout and not result.stdout.endswith(b"\n") else b""
    return (result.stdout + joint + result.stderr).decode("utf-8", "replace")


def _script_remark(result: ExecResult, timeout_s: float) -> str:
    if result.timed_out:
        return f"[timed out: the script was killed after {timeout_s:g} s; above is what it printed until then]"
    if result.exit_code != 0:
        return f"[exit code {result.exit_code}]"
    return ""


def make() -> FunctionTool:
    python = PythonTool()
    return tool(python.python, python.remembers)
