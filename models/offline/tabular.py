"""`offline/tabular`: a model without a language model, for machine learning tasks over tables.

It is a pure function of the messages, the tools and the seed: it reads the task and the data that a scaffold shows it,
and answers as a coder would. It drafts scikit-learn pipelines from a declared search space, changes one thing at a
time, makes real mistakes at a stated rate, and repairs what the shown traceback says. It knows nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from trellis.models.messages import Message, ToolCall, assistant
from trellis.models.model import GenerateConfig, Reply, StopReason, ToolSpec
from trellis.models.offline.tabular_agent import act
from trellis.models.offline.tabular_coder import Coder
from trellis.models.offline.tabular_prompts import answer_prompt, answer_review
from trellis.models.tokens import estimate_usage

REVIEW = "submit_review"


class Tabular(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = "offline/tabular"

    bug_rate: float = Field(default=0.25, ge=0, lt=1)
    """Probability that a script it writes has a mistake in it; that it has a second one, the square of that."""
    folds: int = Field(default=3, ge=2, le=20)
    """Folds of cross-validation in its scripts, whatever is recommended to it."""
    patience: int = Field(default=3, ge=1)
    """With tools: hand in after so many changes in a row that did not help."""
    max_scripts: int = Field(default=10, ge=1)
    """With tools: hand in after so many scripts."""

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        """Answer at once, by reading. Its price is known: 0 USD."""
        message = self._answer(messages, {tool.name for tool in tools}, config)
        stop: StopReason = "tool_calls" if message.tool_calls else "stop"
        return Reply(message, stop, estimate_usage(messages, message, tools), cost_usd=0.0)

    def _answer(self, messages: Sequence[Message], tools: set[str], config: GenerateConfig) -> Message:
        random = Random(f"{config.seed}/{_digest(messages)}")
        coder = Coder(random, self.bug_rate, self.folds)
        text = "\n\n".join(message.text for message in messages)
        if tools == {REVIEW} or config.tool_choice == REVIEW:
            return assistant(ToolCall(f"call_{random.getrandbits(40):010x}", REVIEW, answer_review(text)))
        if not tools:
            return assistant(answer_prompt(text, coder))
        thought, name, arguments = act(messages, tools, coder, patience=self.patience, max_scripts=self.max_scripts)
        if not name:
            return assistant(thought)
        return assistant(thought, ToolCall(f"call_{random.getrandbits(40):010x}", name, arguments))


def _digest(messages: Sequence[Message]) -> str:
    digest = hashlib.sha256()
    for message in messages:
        digest.update(f"{message.role}\0{message.text}\0".encode("utf-8", "replace"))
    return digest.hexdigest()
