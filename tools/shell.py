"""`shell`: a bash whose working folder, variables, functions and background jobs last between commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

from trellis.environments.environment import Environment, Shell, ShellResult
from trellis.tools import full_screen
from trellis.tools.arguments import Seconds, String
from trellis.tools.clip import presentable, raw_of
from trellis.tools.jobs import Job, Jobs, News
from trellis.tools.tool import FunctionTool, Output, ToolError, tool

DEFAULT_TIMEOUT_S = 120.0
GONE_S = 10.0
"""How long what was killed may take to be gone: a busy machine needs a while for it."""
END_OF_INPUT, CTRL_C = "\x04", "\x03"

_START_UP = """{
: "${PAGER=cat}" "${GIT_PAGER=cat}" "${MANPAGER=cat}" "${SYSTEMD_PAGER=cat}"
: "${EDITOR=false}" "${VISUAL=false}" "${GIT_EDITOR=true}"
: "${GIT_TERMINAL_PROMPT=0}" "${DEBIAN_FRONTEND=noninteractive}"
export TERM PAGER GIT_PAGER MANPAGER SYSTEMD_PAGER EDITOR VISUAL GIT_EDITOR GIT_TERMINAL_PROMPT DEBIAN_FRONTEND
} 2>/dev/null"""
"""Nothing pages, and nothing opens an editor: git takes the message it has, others say that they have none."""

_HOW_TO_GO_ON = '`input` ("\\u0004" for the end of input), `interrupt`, or `timeout_s` alone to wait for its end'


@dataclass
class _Session:
    """The shell of one world, and the lock that keeps its commands one after the other."""

    shell: Shell | None = None
    ready: bool = False
    """Has the shell its settings?"""
    notice: bytes = b""
    """What the shell had to say about itself, which the next result tells."""
    waiting: str = ""
    """The command that waited for input when it was last seen."""
    jobs: Jobs = field(default_factory=Jobs)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class ShellTool:
    """One persistent shell per world, opened when it is first used; the world closes it."""

    def __init__(self) -> None:
        self._sessions: WeakKeyDictionary[Environment, _Session] = WeakKeyDictionary()

    def remembers(self, environment: Environment) -> bool:
        """Are there jobs of which more can be read, or what the shell still has to say?"""
        session = self._sessions.get(environment)
        return session is not None and bool(session.jobs or session.notice or session.waiting)

    async def shell(
        self,
        environment: Environment,
        command: String = "",
        input: String | None = None,
        interrupt: bool = False,
        background: bool = False,
        job: int | None = None,
        timeout_s: Seconds | None = None,
    ) -> Output:
        """Run a command in a persistent bash shell. The working folder, variables, functions and background jobs last
        from one call to the next. Standard output and error come back together, in order; long output is cut in the
        middle and kept whole in a file. If a command waits for input, the call returns and says so: go on with `input`
        or `interrupt`. There is no screen: editors, pagers and the like do not work. Start servers and whatever else
        should keep running with `background`, and read its output later with `job`.

        Args:
            command: what to run; may have several lines. Leave it out with `input`, `interrupt` or `job`.
            input: what to type for the command that waits for input. Enter is pressed after it, unless it ends in
                "\\u0004" (Ctrl-D, the end of input).
            interrupt: end the command that waits for input, as Ctrl-C does; with `job`, end that job.
            background: run `command` as a background job; the result tells its number.
            job: number of a background job: get what it has printed since the last time, and whether it still runs.
            timeout_s: seconds after which the command and everything it started is killed, 120 if left out; with
                `job`, how long to wait for its end.
        """
        command = command if command.strip() else ""
        session = self._sessions.setdefault(environment, _Session())
        _check(command, input, interrupt, background, job)
        if job is not None:
            return await _job(environment, session.jobs, job, interrupt=interrupt, wait_s=timeout_s or 0)
        limit_s = timeout_s or DEFAULT_TIMEOUT_S
        async with session.lock:
            shell = await _ready(environment, session)
            if background:
                return await _start(environment, session, shell, command)
            if command:
                doing = shell.run(command, timeout_s=limit_s, interactive=True)
            elif interrupt or input == CTRL_C:
                doing = shell.interrupt()
            elif input is not None:
                doing = _type(shell, input, limit_s)
            else:
                doing = shell.wait(timeout_s=limit_s)
            result = await _go_on(session, command, doing)
            about, session.waiting = command or session.waiting, (command or session.waiting) * result.waiting
            session.ready = not result.restarted
            notice, session.notice = session.notice, b""
        output = notice + result.output
        text = await presentable(environment, full_screen.without_pictures(output), spilled=result.spilled)
        facts = {
            "exit_code": result.exit_code,
            "timed_out": result.timed_out,
            "restarted": result.restarted,
            "waiting": result.waiting,
            "duration_s": result.duration_s,
            **raw_of(output),
        }
        remarks = _remarks(about, result, limit_s, interrupted=interrupt or input == CTRL_C)
        return Output("\n".join([text, *remarks]).lstrip("\n") or "(no output)", data=facts)


def _check(command: str, given: str | None, interrupt: bool, background: bool, job: int | None) -> None:
    """Raises ToolError if the arguments do not go together."""
    if command and (given is not None or interrupt or job is not None):
        raise ToolError(
            "give either `command`, or one of `input`, `interrupt` and `job`: they go on with another command"
        )
    if given is not None and (interrupt or job is not None):
        raise ToolError("`input` is for the command that waits for it: give it without `interrupt` and `job`")
    if background and not command:
        raise ToolError("`background` needs a `command`; to read what a job has printed, give `job`")


async def _ready(environment: Environment, session: _Session) -> Shell:
    """The shell with its settings."""
    if session.shell is None:
        session.shell = await environment.open_shell()
    if not session.ready:
        session.notice += (await session.shell.run(_START_UP)).output
        session.ready = True
    return session.shell


async def _type(shell: Shell, text: str, limit_s: float) -> ShellResult:
    """Text and Enter, or text and the end of input."""
    ended = text.endswith(END_OF_INPUT)
    text = text.removesuffix(END_OF_INPUT)
    if not ended:
        return await shell.send((text.removesuffix("\n") + "\n").encode(), timeout_s=limit_s)
    before = await shell.send(text.encode(), timeout_s=limit_s) if text else None
    if before is not None and not before.waiting:
        return before
    return _joined(before, await shell.send(b"", timeout_s=limit_s))


def _joined(before: ShellResult | None, after: ShellResult) -> ShellResult:
    return after if before is None else replace(after, output=before.output + after.output)


async def _go_on(session: _Session, command: str, doing: Awaitable[ShellResult]) -> ShellResult:
    """Raises ToolError if the shell is not in the state for it."""
    try:
        return await doing
    except ValueError:
        if command:
            raise ToolError(
                f"the command before waits for input; first go on with {_HOW_TO_GO_ON}. It is: {session.waiting[:200]}"
            ) from None
        raise ToolError("no command waits for input: give a `command`") from None


async def _start(environment: Environment, session: _Session, shell: Shell, command: str) -> Output:
    try:
        job = await session.jobs.start(environment, shell, command)
    except ValueError:
        raise ToolError(f"the command before waits for input; first go on with {_HOW_TO_GO_ON}") from None
    notice, session.notice = session.notice, b""
    text = f"[job {job.number} runs in the background: read it with `job`, end it with `job` and `interrupt`]"
    said = await presentable(environment, notice)
    return Output(
        "\n".join(filter(None, [said, text])),
        data={"job": job.number, "exit_code": 0, "timed_out": False, "restarted": False},
    )


async def _job(environment: Environment, jobs: Jobs, number: int, *, interrupt: bool, wait_s: float) -> Output:
    job = jobs.find(number)
    if interrupt:
        await jobs.end(environment, job)
        wait_s = max(wait_s, GONE_S)
    news = await jobs.read(environment, job, wait_s)
    text = await presentable(environment, news.output, spilled=(job.log,))
    facts = {"job": job.number, "running": news.running, "exit_code": news.exit_code, **raw_of(news.output)}
    return Output("\n".join(filter(None, [text, _stands(job, news)])), data=facts)


def _stands(job: Job, news: News) -> str:
    if news.running:
        return f"[job {job.number} still runs]" if news.output else f"[job {job.number} still runs; nothing new]"
    if news.exit_code is None:
        return f"[job {job.number} was killed]"
    return f"[job {job.number} ended with exit code {news.exit_code}]"


def _remarks(command: str, result: ShellResult, limit_s: float, *, interrupted: bool) -> list[str]:
    remarks = []
    stuck = result.waiting or result.timed_out
    if result.waiting:
        remarks.append(f"[the command waits for input. Go on with {_HOW_TO_GO_ON}]")
    elif result.timed_out:
        remarks.append(
            f"[timed out: the command was killed after {limit_s:g} s; above is what it printed until then. "
            "Give a longer timeout_s, or run it with `background`.]"
        )
    elif interrupted:
        remarks.append("[interrupted]")
    elif result.exit_code != 0:
        remarks.append(f"[exit code {result.exit_code}]")
    if not interrupted:
        remarks.append(full_screen.remark(command, result.output, stuck=stuck, failed=result.exit_code != 0))
    if result.restarted:
        remarks.append(
            "[the shell ended and a new one took its place: the working folder is the initial one again, and variables "
            "and functions are gone]"
        )
    return [remark for remark in remarks if remark]


def make() -> FunctionTool:
    shell = ShellTool()
    return tool(shell.shell, shell.remembers)
