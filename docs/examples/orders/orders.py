"""A benchmark of one task whose world has services of its own.

trellis run docs/examples/orders/orders.py:Orders --scaffold react --model openai/gpt-5 --env docker
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from trellis.benchmarks.benchmark import Cheat, Grader, Score, Submission, Task
from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.models.messages import Text

HERE = Path(__file__).parent
PROMPT = """\
A shop serves its orders as JSON at http://shop:8000/orders and the price of each item at http://shop:8000/prices.
What is the total of all orders that are paid? Submit the number."""


class Orders:
    name = "orders"
    version = "1"
    judge: str | None = None

    def splits(self) -> Sequence[str]:
        return ("sample",)

    def tasks(self, split: str) -> Iterable[Task]:
        if split != "sample":
            raise ValueError(f"unknown split {split!r}; there is: sample")
        world = EnvironmentSpec(compose=str(HERE / "compose.yaml"))
        yield Task("paid-total", (Text(PROMPT),), world, tools=("shell", "submit"))

    async def collect(self, task: Task, environment: Environment | None, answer: str) -> Submission:
        return Submission(answer.strip())

    async def score(self, task: Task, submission: Submission, grader: Grader) -> Score:
        if submission.empty:
            return Score(0.0, success=False, valid=False, explanation="nothing handed in")
        right = submission.answer == str(_total())
        return Score(float(right), success=right, explanation=submission.answer)

    async def oracle(self, task: Task) -> Submission:
        return Submission(str(_total()))

    def cheats(self, task: Task) -> Sequence[Cheat]:
        return ()

    def metrics(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return {}


def _total() -> int:
    prices = {"apple": 3, "pear": 4, "plum": 1}
    orders = json.loads((HERE / "shop" / "orders.json").read_text())
    return sum(order["count"] * prices[order["item"]] for order in orders if order["paid"])
