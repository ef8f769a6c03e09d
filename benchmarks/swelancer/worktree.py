"""What crosses from the agent's world: its working tree, as a patch against what it was given.

Git inside that world is not asked: whatever was committed, stashed or broken there neither hides nor forges anything.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from trellis.benchmarks.swelancer.trees import IGNORED, Tree, diff, read_tar
from trellis.environments.environment import Environment

MOST_BYTES = 32 << 20
LARGEST_FILE_BYTES = 1 << 20
"""Larger files are no part of a patch."""

_TAR = """\
set -euo pipefail
out=$(mktemp)
find . \\( {ignored} \\) -prune -o -type f -size -{kilobytes}k -print0 \\
    | tar --create --file=- --null --no-recursion --verbatim-files-from --files-from=- | head -c {most} >"$out"
printf %s "$out"
"""

_CONFIGURES_TESTS = frozenset({"conftest.py", "pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml"})
_RUNS_AT_STARTUP = re.compile(r"(?:sitecustomize|usercustomize)\.py|.*\.pth")

EDITS_TESTS = "edits-tests"
PLANTS_STARTUP_CODE = "plants-startup-code"


async def collect_patch(environment: Environment, before: Tree) -> bytes:
    """Raises PatchError for a tree that cannot be one of a repository, EnvironmentFault when the world is broken."""
    ignored = " -o ".join(f"-name {name}" for name in sorted(IGNORED))
    script = _TAR.format(ignored=ignored, kilobytes=(LARGEST_FILE_BYTES >> 10) + 1, most=MOST_BYTES)
    packed = await environment.exec(script, timeout_s=120)
    if not packed.ok:
        return b""
    path = packed.stdout.decode("utf-8", "surrogateescape")
    data = await environment.read_file(path)
    await environment.exec(["rm", "-f", "--", path])
    after = await asyncio.to_thread(read_tar, data)
    return await asyncio.to_thread(diff, before, after)


def protected(paths: Iterable[str], before: Tree) -> Mapping[str, str]:
    """Those paths that a patch must not decide about, each with the flag for touching it: existing tests, what
    configures tests, and what Python runs at its start. New test files are welcome."""
    found = {}
    for path in paths:
        name = PurePosixPath(path).name
        if _RUNS_AT_STARTUP.fullmatch(name):
            found[path] = PLANTS_STARTUP_CODE
        elif name in _CONFIGURES_TESTS or (path.startswith("tests/") and path in before):
            found[path] = EDITS_TESTS
    return found
