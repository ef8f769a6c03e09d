"""`python`: runs a script in the workdir, each time in a fresh interpreter."""

from __future__ import annotations

import itertools

from trellis.environments.environment import Environment, ExecResult
from trellis.tools.arguments import Seconds, String
from trellis.tools.clip import presentable
from trellis.tools.tool import FunctionTool, Output, ToolError, tool

SHOWN_AS = "script.py"


class PythonTool:
    """Scripts lie in the workdir, under a hidden name, while they run: there `import` finds what lies beside them."""

    def __init__(self) -> None:
        self._count = itertools.count(1)

    async def python(self, environment: Environment, code: String, timeout_s: Seconds = 600) -> Output:
        """Run a Python 3 script in a fresh interpreter, with the workdir as the current folder. Nothing lasts between
        calls but the files it writes. Print what you want to see; long output is cut in the middle and kept whole in
        a file.

        Args:
            code: the whole script.
            timeout_s: seconds after which the script and everything it started is killed.
        """
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
        return Output("\n".join(filter(None, [text, _remark(result, timeout_s)])) or "(no output)", data=facts)


def _combined(result: ExecResult) -> str:
    """Standard output, then standard error, which begins on a line of its own."""
    joint = b"\n" if result.stderr and result.stdout and not result.stdout.endswith(b"\n") else b""
    return (result.stdout + joint + result.stderr).decode("utf-8", "replace")


def _remark(result: ExecResult, timeout_s: float) -> str:
    if result.timed_out:
        return f"[timed out: the script was killed after {timeout_s:g} s; above is what it printed until then]"
    if result.exit_code != 0:
        return f"[exit code {result.exit_code}]"
    return ""


def make() -> FunctionTool:
    return tool(PythonTool().python)
