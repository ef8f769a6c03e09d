"""A repository of two lines with a bug in each, and a model that mends one at a time: what the small trajectories here
were recorded with. Replaying them needs the benchmark for its task, and never the model.

    cd tests/regression
    trellis run ./small.py:Small --model ./small.py:Pupil --env sandbox --scaffold react
    trellis replay RUN --recorded --save trajectories/react.jsonl
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from trellis.benchmarks.benchmark import Cheat, Grader, Score
from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.models.messages import Message, Text, ToolCall, assistant
from trellis.models.model import GenerateConfig, Reply, ToolSpec
from trellis.scaffolds.task import Submission, Task

SETUP = """\
git init -q . && git config user.name t && git config user.email t@localhost
cat > sums.sh <<'END'
double() { echo $(( $1 + 1 )); }
half() { echo $(( $1 - 1 )); }
END
cat > check.sh <<'END'
. ./sums.sh
passed=0
[ $(double 4) = 8 ] && passed=$((passed + 1))
[ $(half 8) = 4 ] && passed=$((passed + 1))
echo "$passed passed, $((2 - passed)) failed"
[ $passed = 2 ]
END
git add . && git commit -qm begun
"""
MENDED = {"double": "s/\\$1 + 1/$1 * 2/", "half": "s|\\$1 - 1|$1 / 2|"}


class Small:
    name = "small"
    version = "1"
    judge: str | None = None

    def splits(self) -> Sequence[str]:
        return ("sample",)

    def tasks(self, split: str) -> Iterable[Task]:
        said = "`sh check.sh` fails: the functions in sums.sh do not what their names say. Mend them."
        facts = {"kind": "repository", "test_command": "sh check.sh"}
        yield Task("sums", (Text(said),), EnvironmentSpec(setup=SETUP), facts=facts)

    async def collect(self, task: Task, environment: Environment | None, answer: str) -> Submission:
        assert environment is not None
        return Submission(answer, {"sums.sh": await environment.read_file("sums.sh")})

    async def score(self, task: Task, submission: Submission, grader: Grader) -> Score:
        good = submission.files.get("sums.sh", b"").count(b"* 2") == 1
        return Score(float(good), success=good)

    async def oracle(self, task: Task) -> Submission:
        return Submission("", {"sums.sh": b"double() { echo $(( $1 * 2 )); }\nhalf() { echo $(( $1 / 2 )); }\n"})

    def cheats(self, task: Task) -> Sequence[Cheat]:
        return ()

    def metrics(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return {}


class Pupil:
    """Looks, mends `double` (and `half` where it is told of an attempt before), and hands in."""

    name = "small/pupil"

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        turn = sum(message.role == "assistant" for message in messages)
        again = any("Attempt 1" in message.text for message in messages if message.role == "user")
        mend = MENDED["half" if again else "double"]
        says, tool, arguments = [
            ("I look at it first.", "shell", {"command": "cat sums.sh check.sh"}),
            ("I mend what I see.", "shell", {"command": f"sed -i '{mend}' sums.sh; sh check.sh"}),
            ("That is it.", "submit", {"answer": "mended"}),
        ][turn]
        return Reply(assistant(says, ToolCall(f"call-{turn}", tool, arguments)), "tool_calls")
