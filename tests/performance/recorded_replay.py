"""What a recorded replay of 1,000 steps costs: ReAct with a tool call in every step, and results of a usual length.

    python tests/performance/recorded_replay.py [--json] [--steps N]

Prints the replay by itself (files, fingerprints and the program; the target of DESIGN section 11 is 1 s), the same as
a command with the start of Python, and beside it what reading the log as JSON costs. Where others use the machine too,
its processor time says more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from trellis.benchmarks.benchmark import Cheat, Grader, Score
from trellis.environments.environment import Environment
from trellis.models.messages import Message, Text, ToolCall, assistant
from trellis.models.model import GenerateConfig, Reply, ToolSpec, Usage
from trellis.runs.regression import replay
from trellis.scaffolds.task import Submission, Task
from trellis.tools.tool import tool

HERE = Path(__file__)


class Long:
    """A question that takes many looks at something."""

    name = "long"
    version = "1"
    judge: str | None = None

    def splits(self) -> Sequence[str]:
        return ("sample",)

    def tasks(self, split: str) -> Iterable[Task]:
        yield Task("long", (Text("Look at everything."),), tools=(f"{HERE}:look",))

    async def collect(self, task: Task, environment: Environment | None, answer: str) -> Submission:
        return Submission(answer)

    async def score(self, task: Task, submission: Submission, grader: Grader) -> Score:
        return Score(1.0, success=True)

    async def oracle(self, task: Task) -> Submission:
        return Submission("done")

    def cheats(self, task: Task) -> Sequence[Cheat]:
        return ()

    def metrics(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return {}


class Looker:
    """Calls the tool so many times, and then answers."""

    name = "perf/looker"

    def __init__(self, steps: int) -> None:
        self._steps = steps

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        number = len(messages) // 2
        usage = Usage(input=1000, output=50)
        if number >= self._steps:
            return Reply(assistant("done"), usage=usage)
        return Reply(assistant("I look on. " * 20, ToolCall(f"c{number}", "look", {"at": number})), "tool_calls", usage)


@tool
async def look(environment: Environment, at: int) -> str:
    """Look at something.

    Args:
        at: its number.
    """
    return "\n".join(f"line {line} of {at}: nothing to be seen here" for line in range(40))


def best_ms(work: Callable[[], object], times: int = 3, clock: Callable[[], float] = time.perf_counter) -> float:
    found = []
    for _ in range(times):
        began = clock()
        work()
        found.append((clock() - began) * 1000)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=1000)
    flags = parser.parse_args()
    trellis = (sys.executable, "-m", "trellis.runs.cli")
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run(
            (*trellis, "run", f"{HERE}:Long", "--model", f"{HERE}:Looker", "-M", f"steps={flags.steps}",
             "--max-steps", "0", "--runs-dir", folder, "--json"),
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        path = next(Path(json.loads(ran.stdout)["run"]).glob("episodes/*/*/*/*"))
        log = (path / "trajectory.jsonl").read_bytes()
        outcome = replay(path)
        assert (outcome.steps, outcome.change) == (flags.steps, None), outcome
        command = (*trellis, "replay", str(path), "--recorded")
        rows = {
            f"recorded replay of {flags.steps} steps": best_ms(lambda: replay(path)),
            "its processor time": best_ms(lambda: replay(path), clock=time.process_time),
            "as a command": best_ms(lambda: subprocess.run(command, check=True, capture_output=True)),
            "floor: its log read as JSON": best_ms(lambda: [json.loads(line) for line in log.splitlines()]),
        }
    if flags.json:
        print(json.dumps({"steps": flags.steps, "bytes": len(log), "ms": rows}, indent=2))
        return
    for name, ms in rows.items():
        print(f"{name:34} {ms:8.0f} ms")


if __name__ == "__main__":
    main()
