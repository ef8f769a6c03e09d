"""How a run of a node is judged: by a model that reads the output, and by facts that it cannot overrule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trellis.models.messages import user
from trellis.models.model import GenerateConfig, ToolSpec
from trellis.scaffolds.episode import Episode
from trellis.scaffolds.reported import reported_metric
from trellis.scaffolds.tree.prompts import Prompt, fenced, markdown, trim

SUBMIT_REVIEW = ToolSpec(
    "submit_review",
    "Submit a review of the output of the training script.",
    {
        "type": "object",
        "properties": {
            "is_bug": {
                "type": "boolean",
                "description": "true if the output shows that the run failed or has a bug, otherwise false",
            },
            "has_csv_submission": {
                "type": "boolean",
                "description": "true if the code saves the predictions for the test data in the file that the task "
                "asks for, otherwise false",
            },
            "summary": {
                "type": "string",
                "description": "what came out, in 2 or 3 sentences; for a failed run, the cause and a possible fix",
            },
            "metric": {
                "type": ["number", "null"],
                "description": "the validation metric that the run reports; null if it failed or reports none",
            },
            "lower_is_better": {
                "type": "boolean",
                "description": "true if the metric should be minimised (an error), false if maximised (accuracy)",
            },
        },
        "required": ["is_bug", "has_csv_submission", "summary", "metric", "lower_is_better"],
        "additionalProperties": False,
    },
)


@dataclass(frozen=True, slots=True)
class Run:
    """What is known for certain of a node's run."""

    output: str
    exit_code: int
    timed_out: bool
    has_submission: bool
    """The file to hand in exists in the world the run left; true where the task asks for none."""
    duration_s: float = 0.0

    @property
    def failed(self) -> bool:
        return self.exit_code != 0 or self.timed_out


@dataclass(frozen=True, slots=True)
class Verdict:
    is_buggy: bool
    metric: float | None
    lower_is_better: bool | None
    summary: str


def verdict(review: Mapping[str, Any], run: Run) -> Verdict:
    """What a review is worth beside the facts. A node is buggy if the review says so, if the run failed, if there is
    no submission in word and in deed, or if there is no finite metric (a whole number is one)."""
    metric = review.get("metric")
    valid = isinstance(metric, int | float) and not isinstance(metric, bool) and math.isfinite(metric)
    buggy = (
        review.get("is_bug") is not False
        or run.failed
        or review.get("has_csv_submission") is not True
        or not run.has_submission
        or not valid
    )
    lower = review.get("lower_is_better")
    return Verdict(
        is_buggy=buggy,
        metric=None if buggy or metric is None else float(metric),
        lower_is_better=lower if isinstance(lower, bool) else None,
        summary=str(review.get("summary") or _facts(run)),
    )


async def review(episode: Episode, task: str, code: str, run: Run) -> Verdict:
    """Ask the reviewer (role "review"; the main model where there is none) through a forced function call.

    Raises:
        LimitReached: the budget is spent.
    """
    prompt: Prompt = {
        "Introduction": "You are a machine learning engineer. A script written for the task below has been run. "
        "Review its output: say whether there is a bug, and what the run found.",
        "Task description": task,
        "Implementation": fenced(code, "python"),
        "Execution output": fenced(trim(run.output)),
    }
    config = GenerateConfig(tool_choice=SUBMIT_REVIEW.name)
    reply = await episode.generate([user(markdown(prompt))], tools=[SUBMIT_REVIEW], role="review", config=config)
    given = next((call.arguments for call in reply.tool_calls if call.name == SUBMIT_REVIEW.name), {})
    return verdict(given, run)


def read_output(run: Run, lower_is_better: bool | None) -> Verdict:
    """The review without a model: the printed validation metric and the facts."""
    metric = reported_metric(run.output)
    said = {
        "is_bug": False,
        "has_csv_submission": True,
        "metric": metric,
        "lower_is_better": lower_is_better,
        "summary": _facts(run) if run.failed or metric is None else f"The run reports {metric:g}.",
    }
    return verdict(said, run)


def _facts(run: Run) -> str:
    if run.timed_out:
        return "The run did not end within its time limit."
    if run.exit_code != 0:
        lines = run.output.strip().splitlines()
        error = next((line for line in reversed(lines) if not line.startswith("[")), "no output")
        return f"The run failed: {error}"
    if not run.has_submission:
        return "The run ended, and the file to hand in is missing."
    return "The run reports no validation metric."
