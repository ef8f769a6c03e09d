"""A small benchmark and a model of our own for the kill suite: every call leaves a mark in the file `$KILL_WITNESS`,
which no Trellis code knows of, before it is answered. Replies are a function of the seed, and come in any order.

What tools said, and what the world held in the end, goes into what an agent hands in, and a judge is asked about it.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from trellis.benchmarks.benchmark import Cheat, Grader, Score
from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.models.messages import Message, Text, ToolCall, user
from trellis.models.model import GenerateConfig, Reply, ToolSpec, Usage
from trellis.scaffolds.task import Submission, Task
from trellis.tools.tool import Output

JITTER_S = 0.01
TURNS = 4

TESTS = """\
passed=$(cat "$(dirname "$0")"/d/*.txt 2>/dev/null | grep -c good)
echo "$((passed < 3 ? passed : 3)) passed, $((passed < 3 ? 3 - passed : 0)) failed"
"""
REPOSITORY = f"""\
git init -q . && git config user.email a@b && git config user.name a
cat > tests.sh <<'END'
{TESTS}END
git add . && GIT_AUTHOR_DATE=2020-01-01T00:00:00Z GIT_COMMITTER_DATE=2020-01-01T00:00:00Z git commit -qm begin
"""


def witness(what: str) -> None:
    """One write, so that processes do not tear each other's."""
    fd = os.open(os.environ["KILL_WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, f"{what}\n".encode())
    os.close(fd)


class Small:
    """One task of each kind that scaffolds tell apart; what is handed in are the files that were written."""

    name = "small"
    version = "1"
    judge: str | None = f"{__file__}:Author"

    def splits(self) -> Sequence[str]:
        return ("script", "repository", "tools", "question")

    def tasks(self, split: str) -> Iterable[Task]:
        if split == "script":
            facts = {"kind": "ml", "submission": "out.csv", "lower_is_better": False}
            yield Task("t", (Text("Write it."),), EnvironmentSpec(), tools=("shell", "python", "submit"), facts=facts)
        elif split == "tools":
            tools = ("shell", "python", "edit", "submit")
            yield Task("t", (Text("Do it."),), EnvironmentSpec(), tools=tools)
        elif split == "question":
            yield Task("t", (Text("What is it?"),), None, tools=("submit",))
        else:
            facts = {"kind": "repository", "test_command": "bash $(git rev-parse --show-toplevel)/tests.sh"}
            spec = EnvironmentSpec(setup=REPOSITORY)
            yield Task("t", (Text("Mend it."),), spec, tools=("shell", "submit"), facts=facts)

    async def collect(self, task: Task, environment: Environment | None, answer: str) -> Submission:
        if environment is None:
            return Submission(answer)
        found = await environment.exec("cat out.csv *.txt */*.txt 2>/dev/null")
        return Submission(answer, {"all.txt": found.stdout})

    async def score(self, task: Task, submission: Submission, grader: Grader) -> Score:
        lines = submission.files.get("all.txt", b"").decode().splitlines()
        said = (await grader.judge([user(f"Is this good? {submission.answer} {lines}")])).text
        return Score(sum("good" in line for line in lines) / (len(lines) + 1), success=False, explanation=said)

    async def oracle(self, task: Task) -> Submission:
        return Submission("", {"all.txt": b"good"})

    def cheats(self, task: Task) -> Sequence[Cheat]:
        return ()

    def metrics(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return {}


class Author:
    """Writes scripts for a tree search, and else works with tools: in a folder and with a variable of its shell, so
    that whatever becomes of them is in what it hands in."""

    name = "test/author"

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        witness(f"model {config.seed}")
        await asyncio.sleep(random.random() * JITTER_S)
        chance = random.Random(config.seed)
        usage = Usage(input=len(messages), output=1)
        if not tools:
            return Reply(Message("assistant", (Text(_script(chance)),)), usage=usage, cost_usd=0.001)
        turn = sum(message.role == "assistant" for message in messages)
        calls = _calls(turn, chance, {tool.name for tool in tools})
        return Reply(Message("assistant", calls), stop_reason="tool_calls", usage=usage, cost_usd=0.001)


def _script(chance: random.Random) -> str:
    code = f"open('out.csv', 'w').write('good {chance.random()}\\n')\n"
    code += "raise SystemExit(1)" if chance.random() < 0.3 else f"print('Validation metric: {chance.random():.6f}')"
    return f"A plan.\n```python\n{code}\n```"


def _calls(turn: int, chance: random.Random, tools: set[str]) -> tuple[ToolCall, ...]:
    mark = f"{chance.getrandbits(48):x}"
    if turn == TURNS or tools == {"submit"}:
        return (ToolCall(f"s{mark}", "submit", {"answer": mark}),)
    if "edit" in tools:
        return _calls_that_tools_remember(turn, mark)
    word = "good" if chance.random() < 0.6 else "bad"
    begin = "mkdir d; cd d; N=0; " if turn == 0 else ""
    command = f"{begin}N=$((N + 1)); echo $N {word} {mark} >> $N.txt; cat *.txt | wc -l; pwd | grep -o '[^/]*$'"
    calls = [ToolCall(f"c{mark}", "shell", {"command": command})]
    if "post" in tools and turn % 2:
        calls.append(ToolCall(f"p{mark}", "post", {"text": mark}))
    return tuple(calls)


def _calls_that_tools_remember(turn: int, mark: str) -> tuple[ToolCall, ...]:
    """Each turn needs what a tool knows since the one before: a kernel's variables, an edit to be taken back, a job."""
    match turn:
        case 0:
            shell = {"command": f"sleep 0.2; echo {mark}", "background": True}
            edit, code = {"command": "create", "path": "a.txt", "file_text": f"good {mark}\n"}, "x = [1]"
        case 1:
            shell = {"job": 1, "timeout_s": 20}
            edit = {"command": "str_replace", "path": "a.txt", "old_str": "good", "new_str": f"bad {mark}"}
            code = f"x.append('{mark}'); x"
        case 2:
            shell = {"command": "cat a.txt"}
            edit, code = {"command": "undo", "path": "a.txt"}, f"open('x.txt', 'w').write(f'good {{x}} {mark}')"
        case _:
            shell = {"command": f"cat *.txt; echo good {mark} > b.txt"}
            edit, code = {"command": "undo", "path": "a.txt"}, "len(x)"
    return (
        ToolCall(f"e{mark}", "edit", edit),
        ToolCall(f"p{mark}", "python", {"code": code}),
        ToolCall(f"c{mark}", "shell", shell),
    )


class Post:
    """Tools of a server outside the worlds (a `Toolset`): what they do there cannot be taken back or repeated."""

    name = "post"
    in_world = False

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    async def discover(self, environment: Environment) -> Sequence[ToolSpec]:
        witness(f"discover {self._epoch}")
        text = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
        return [ToolSpec("post", "Put up a notice outside.", text)]

    async def call(self, environment: Environment, tool: str, arguments: Mapping[str, object]) -> Output:
        witness(f"post {arguments['text']}")
        return Output(f"{len(Path(os.environ['KILL_WITNESS']).read_text()) > 0}")

    async def close(self) -> None:
        return None
