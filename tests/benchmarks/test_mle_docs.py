"""The page about benchmarks: its example and test run as they stand there, and its table is right."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trellis.benchmarks.mle import Mle
from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.models.messages import Message
from trellis.models.model import GenerateConfig, Reply

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-benchmark.md").read_text("utf-8")
EXAMPLE, TEST = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def defined_by(source: str) -> dict[str, Any]:
    """What the page's code defines: our own text, not a model's."""
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(source, "adding-a-benchmark.md", "exec"), names)
    return names


async def start(spec: EnvironmentSpec) -> Environment:
    return await replace(spec, kind="local").start(label="test/docs")


class LocalGrader:
    async def start(self, spec: EnvironmentSpec) -> Environment:
        return await start(spec)

    async def judge(self, messages: Sequence[Message], *, config: GenerateConfig = GenerateConfig()) -> Reply:
        raise AssertionError("the example asks no judge")


async def test_the_example_passes_the_test_of_the_page() -> None:
    benchmark = defined_by(EXAMPLE)["Initials"]()
    await defined_by(TEST)["test_both_ends_of_the_scale_and_every_cheat"](benchmark, LocalGrader(), start)


def test_the_table_of_the_sample_is_right(tmp_path: Path) -> None:
    mle = Mle(data_dir=tmp_path)
    rows = dict(re.findall(r"^\| `([\w-]+)` \| ([\d,]+ \+ [\d,]+) \|", PAGE, re.MULTILINE))
    assert list(rows) == mle.ids("sample")
    for id, counts in rows.items():
        public = mle.competition(id).public
        train, test = (len((public / f"{name}.csv").read_text().splitlines()) - 1 for name in ("train", "test"))
        assert counts == f"{train:,} + {test:,}", id
