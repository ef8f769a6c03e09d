"""The cost of a recorded conversation with cache reads and writes is what the providers' own arithmetic says."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from trellis.models.messages import Text, user
from trellis.models.model import Usage
from trellis.models.prices import Prices
from trellis.runs.repricing import calls_of
from trellis.runs.results import Key, Result
from trellis.scaffolds.budget import Budget
from trellis.scaffolds.episode import Episode
from trellis.scaffolds.task import Submission, Task

from .conftest import Connect
from .loopback import Fault

pytestmark = pytest.mark.wire

MILLION = Decimal(1_000_000)


async def conversation(connect: Connect, folder: Path, provider: str, model: str, bodies: list[Any]) -> Budget:
    """Have a model answer with these bodies, one a turn, in an episode that is recorded."""

    async def nothing(_: object, __: str) -> Submission:
        return Submission()

    wire, budget = await connect(provider), Budget()
    wire.loopback.faults.extend(Fault(status=200, body=body) for body in bodies)
    async with Episode.open(
        folder, task=Task("t", (Text("Hm."),)), tools=(), models={"main": wire.load(model=model)}, seed=1,
        budget=budget, collect=nothing, label="costs", environment=None, header={"episode": {"task": "t"}},
    ) as episode:  # fmt: skip
        messages = [user("Hello")]
        for _ in bodies:
            reply = await episode.generate(messages)
            messages += [reply.message, user("Go on.")]
    return budget


def of_the_log(folder: Path, usage: Usage) -> Decimal:
    calls = calls_of(folder, Result(Key("b", "t", "a", 1), 1, "completed", "x", steps=1, usage=usage))
    costs = [call.again(Prices.listed()) for call in calls]
    return sum((Decimal(repr(cost)) for cost in costs), Decimal(0))


async def test_anthropic(connect: Connect, tmp_path: Path) -> None:
    """Input, five-minute and one-hour writes at 1.25 and 2 times it, reads at a tenth, output: the prices of "Claude
    Opus 5" (platform.claude.com/docs/en/models/opus-5/overview); input_tokens are those after the last mark ("Prompt
    caching": total input = cache_read + cache_creation + input)."""
    turns = [(21, 0, 188_086, 0, 393), (21, 188_086, 100, 1_000, 1_503), (2_048, 189_186, 148, 100, 503)]
    bodies = [
        {
            "id": f"msg_{n}", "type": "message", "role": "assistant", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "Hm."}],
            "usage": {
                "input_tokens": fresh, "cache_read_input_tokens": read, "output_tokens": written,
                "cache_creation_input_tokens": minutes + hour,
                "cache_creation": {"ephemeral_5m_input_tokens": minutes, "ephemeral_1h_input_tokens": hour},
                "service_tier": "standard",
            },
        }
        for n, (fresh, read, minutes, hour, written) in enumerate(turns)
    ]  # fmt: skip
    budget = await conversation(connect, tmp_path, "anthropic", "anthropic/claude-opus-5", bodies)
    documented = (
        sum(
            fresh * Decimal(5)
            + read * Decimal("0.50")
            + minutes * Decimal("6.25")
            + hour * Decimal(10)
            + out * Decimal(25)
            for fresh, read, minutes, hour, out in turns
        )
        / MILLION
    )
    assert budget.spent_cost_usd == pytest.approx(float(documented), abs=1e-9)
    assert of_the_log(tmp_path, budget.spent_usage).quantize(Decimal("0.01")) == documented.quantize(Decimal("0.01"))


async def test_openai(connect: Connect, tmp_path: Path) -> None:
    """Cached tokens are a part of the input and cost half of it with GPT-4o; reasoning is a part of the output ("Prompt
    Caching in the API", openai.com/index/api-prompt-caching, whose usage is the second turn)."""
    turns = [(1_950, 0, 250), (2_006, 1_920, 300), (400_006, 398_080, 9_001)]
    bodies = [
        {
            "id": f"resp_{n}", "object": "response", "status": "completed", "service_tier": "default",
            "output": [{"type": "message", "id": f"msg_{n}", "role": "assistant", "status": "completed",
                        "content": [{"type": "output_text", "text": "Hm.", "annotations": []}]}],
            "usage": {"input_tokens": asked, "input_tokens_details": {"cached_tokens": cached},
                      "output_tokens": out, "output_tokens_details": {"reasoning_tokens": out // 2},
                      "total_tokens": asked + out},
        }
        for n, (asked, cached, out) in enumerate(turns)
    ]  # fmt: skip
    budget = await conversation(connect, tmp_path, "openai", "openai/gpt-4o-2024-08-06", bodies)
    documented = (
        sum(
            (asked - cached) * Decimal("2.50") + cached * Decimal("1.25") + out * Decimal(10)
            for asked, cached, out in turns
        )
        / MILLION
    )
    assert budget.spent_cost_usd == pytest.approx(float(documented), abs=1e-9)
    assert of_the_log(tmp_path, budget.spent_usage).quantize(Decimal("0.01")) == documented.quantize(Decimal("0.01"))
