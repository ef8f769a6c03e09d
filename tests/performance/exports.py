"""What exporting costs, by format: seconds and memory at N steps and at 2N, which tells whether it is linear.

    python tests/performance/exports.py [--json] [--steps N]

Each export is a command of its own, with the start of Python in it. The trajectory is one conversation with a tool call
in every step.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trellis.models.messages import Text, ToolCall, ToolResult, assistant, part_to_json, system, user
from trellis.models.model import GenerateConfig, Reply, ToolSpec, Usage
from trellis.runs.exporting import FORMATS
from trellis.trajectories.recorder import Recorder

SHELL = ToolSpec("shell", "Run a command. " * 10, {"type": "object", "properties": {"command": {"type": "string"}}})


async def record(folder: Path, steps: int) -> None:
    episode = {"benchmark": "long", "task": "long", "agent": "react", "epoch": 1}
    recorder = Recorder(folder, {"episode": episode, "models": {"main": "offline/x"}})
    messages = [system("Be quick."), user("Go.")]
    for number in range(steps):
        call = ToolCall(f"c{number}", "shell", {"command": f"echo {number}"})
        said = assistant(f"step {number} {'x' * 200}", call)
        result = ToolResult(call.id, call.name, (Text(f"{number} {'y' * 500}"),), data={"exit_code": 0})

        async def reply(said: Any = said) -> Reply:
            return Reply(said, "tool_calls", Usage(1000, output=50), 0.001)

        async def answer(result: ToolResult = result) -> Mapping[str, Any]:
            return {"result": part_to_json(result), "handed_in": None}

        await recorder.generate("main", "main", "offline/x", messages, (SHELL,), GenerateConfig(), reply)
        await recorder.effect("act", "main", part_to_json(call), answer)
        messages += [said, result.message]
    recorder.close()


def exported(folder: Path, format: str, to: Path) -> tuple[float, float]:
    """Seconds, and MB at most, of a command of its own."""
    began = time.perf_counter()
    arguments = [sys.executable, "-m", "trellis.runs.cli", "export", str(folder), "--format", format, "-o", str(to)]
    pid = os.posix_spawn(
        sys.executable, arguments, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, 1, 0)]
    )
    _, status, used = os.wait4(pid, 0)
    assert status == 0
    return time.perf_counter() - began, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=10_000)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folders = {steps: Path(temporary, str(steps)) for steps in (options.steps, 2 * options.steps)}
        for steps, folder in folders.items():
            asyncio.run(record(folder, steps))
        for format in FORMATS:
            if format == "aide":  # which has no loops
                continue
            (once, once_mb), (twice, twice_mb) = (exported(f, format, Path(temporary, "out")) for f in folders.values())
            rows.append({"format": format, "steps": options.steps, "s": round(once, 2), "mb": round(once_mb),
                         "s_at_twice": round(twice, 2), "mb_at_twice": round(twice_mb)})  # fmt: skip
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'format':16} {options.steps:>8,} steps {2 * options.steps:>12,} steps")
    for row in rows:
        once, twice = f"{row['s']:6.2f} s {row['mb']:4} MB", f"{row['s_at_twice']:6.2f} s {row['mb_at_twice']:4} MB"
        print(f"{row['format']:16} {once:>14} {twice:>18}")


if __name__ == "__main__":
    main()
