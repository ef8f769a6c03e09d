"""`shell`: a bash whose working folder, variables, functions and background jobs last between commands."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from trellis.environments.environment import Environment, Shell, ShellResult
from trellis.tools.arguments import Seconds, String
from trellis.tools.clip import presentable
from trellis.tools.tool import FunctionTool, Output, tool


@dataclass
class _Session:
    """The shell of one world, and the lock that keeps its commands one after the other."""

    shell: Shell | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class ShellTool:
    """One persistent shell per world, opened when it is first used; the world closes it."""

    def __init__(self) -> None:
        self._sessions: WeakKeyDictionary[Environment, _Session] = WeakKeyDictionary()

    async def shell(self, environment: Environment, command: String, timeout_s: Seconds = 120) -> Output:
        """Run a command in a persistent bash shell. The working folder, variables, functions and background jobs last
        from one call to the next. Standard output and error come back together, in order; long output is cut in the
        middle and kept whole in a file. Commands get no input: use flags instead of prompts, and do not start
        interactive programs or editors. Start what should keep running in the background, with its output in a file:
        `server > server.log 2>&1 &`.

        Args:
            command: what to run; may have several lines.
            timeout_s: seconds after which the command and everything it started is killed.
        """
        session = self._sessions.setdefault(environment, _Session())
        async with session.lock:
            if session.shell is None:
                session.shell = await environment.open_shell()
            result = await session.shell.run(command, timeout_s=timeout_s)
        text = await presentable(environment, result.output, spilled=result.spilled)
        facts = {
            "exit_code": result.exit_code,
            "timed_out": result.timed_out,
            "restarted": result.restarted,
            "duration_s": result.duration_s,
        }
        return Output("\n".join([text, *_remarks(result, timeout_s)]).lstrip("\n") or "(no output)", data=facts)


def _remarks(result: ShellResult, timeout_s: float) -> list[str]:
    remarks = []
    if result.timed_out:
        remarks.append(
            f"[timed out: the command was killed after {timeout_s:g} s; above is what it printed until then. "
            "Give a longer timeout_s, or run it in the background with its output in a file.]"
        )
    elif result.exit_code != 0:
        remarks.append(f"[exit code {result.exit_code}]")
    if result.restarted:
        remarks.append(
            "[the shell ended and a new one took its place: the working folder is the initial one again, and variables "
            "and functions are gone]"
        )
    return remarks


def make() -> FunctionTool:
    return tool(ShellTool().shell)
