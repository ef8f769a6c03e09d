"""A note after a change that broke a file's syntax. Never a refusal: a change may be one of several.

The checks run inside the world, by its own interpreters (so a file is judged by the version that will run it) and on
standard input; nothing of the file is executed. Where an interpreter is missing, nothing is said.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from trellis.environments.environment import Environment

DEADLINE_S = 10.0
LARGEST_BYTES = 1_000_000
"""A longer file is not checked."""

# Prints "line: message" and exits with 1 where the text on standard input is wrong. Whatever else goes wrong (a missing
# module, too deep a nesting) exits with 0: it says nothing about the text.
_PYTHON = r"""
import sys, warnings
warnings.simplefilter("ignore")
text = sys.stdin.buffer.read()
def wrong(line, message):
    print(f"{line}: {message}")
    sys.exit(1)
try:
    if sys.argv[1] == "python":
        import ast
        try:
            ast.parse(text)
        except SyntaxError as error:
            wrong(error.lineno or 0, error.msg)
        except ValueError as error:
            wrong(0, error)
    elif sys.argv[1] == "json":
        import json
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            wrong(error.lineno, error.msg)
    elif sys.argv[1] == "toml":
        import tomllib
        try:
            tomllib.loads(text.decode())
        except tomllib.TOMLDecodeError as error:
            message, _, place = str(error).partition(" (at line ")
            wrong(place.partition(",")[0] or 0, message)
    else:
        import yaml
        try:
            for _ in yaml.parse(text, yaml.SafeLoader):
                pass
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            wrong(mark.line + 1 if mark else 0, getattr(error, "problem", None) or error)
except Exception:
    pass
"""

# As a module first (only these have `import`), then as a script in the function that CommonJS wraps around one.
_JAVASCRIPT = r"""
const vm = require('vm')
const text = require('fs').readFileSync(0, 'utf8')
const attempts = [
    () => new vm.SourceTextModule(text, {identifier: 'file'}),
    () => new vm.Script('(function () {' + text.replace(/^#!/, '//') + '\n})', {filename: 'file'}),
]
const errors = []
for (const attempt of attempts) try { attempt() } catch (error) { errors.push(error) }
if (errors.length == 2) throw errors[/^\s*(import|export)\b/m.test(text) ? 0 : 1]
"""


@dataclass(frozen=True, slots=True)
class _Check:
    command: Sequence[str]
    complaint: re.Pattern[str] = re.compile(r"^(\d+): (.*)$", re.MULTILINE)
    """Line and message in what the command prints when it fails."""


def _python(kind: str) -> _Check:
    return _Check(("python3", "-I", "-B", "-c", _PYTHON, kind))


_SHELL = _Check(("bash", "-n", "/dev/stdin"), re.compile(r"^/dev/stdin: line (\d+): (.*)$", re.MULTILINE))
_NODE = _Check(
    ("node", "--no-warnings", "--experimental-vm-modules", "-e", _JAVASCRIPT),
    re.compile(r"^file:(\d+)\n(?:.*\n)*?SyntaxError: (.*)$", re.MULTILINE),
)
_BY_SUFFIX = {
    ".py": _python("python"),
    ".pyi": _python("python"),
    ".json": _python("json"),
    ".toml": _python("toml"),
    ".yaml": _python("yaml"),
    ".yml": _python("yaml"),
    ".sh": _SHELL,
    ".bash": _SHELL,
    ".js": _NODE,
    ".mjs": _NODE,
    ".cjs": _NODE,
}
_BY_SHEBANG = (
    (re.compile(rb"#!\S*(/|env +)(ba|da)?sh\b"), _SHELL),
    (re.compile(rb"#!\S*(/|env +)python3?\b"), _python("python")),
)


async def note(environment: Environment, path: str, before: bytes | None, after: bytes) -> str:
    """A line that names the place if the change broke the file's syntax; empty otherwise, also if it was broken before.

    Raises:
        EnvironmentFault: the world is gone.
    """
    check = _check_of(path, after)
    if check is None or not after.strip():
        return ""
    found = await _complaint(environment, check, after)
    if found is None or (before is not None and await _complaint(environment, check, before) is not None):
        return ""
    line, message = found
    place = f"line {line}: " if line else ""
    return f"\n[{path} {'has a syntax error' if before is None else 'has a syntax error now'}: {place}{message}]"


def _check_of(path: str, data: bytes) -> _Check | None:
    suffix = posixpath.splitext(path)[1]
    if suffix:
        return _BY_SUFFIX.get(suffix.lower())
    return next((check for shebang, check in _BY_SHEBANG if shebang.match(data)), None)


async def _complaint(environment: Environment, check: _Check, data: bytes) -> tuple[int, str] | None:
    """Line (0: unknown) and message; None where nothing is wrong, or nothing can be said."""
    if len(data) > LARGEST_BYTES:
        return None
    result = await environment.exec(check.command, stdin=data, timeout_s=DEADLINE_S)
    if result.ok or result.timed_out:
        return None
    found = check.complaint.search(result.text)
    return (int(found[1]), found[2].strip()[:300]) if found else None
