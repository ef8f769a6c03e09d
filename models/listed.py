"""What the price list says of a model, for the clients of all providers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from trellis.models.messages import Audio, Message
from trellis.models.model import GenerateConfig, Priced, ToolSpec
from trellis.models.tokens import estimate_message, estimate_tool

if TYPE_CHECKING:
    from trellis.models.client import ClientOptions


class Listed:
    """The capabilities `HasWindow` and `Priced`, from the list of prices."""

    name: str
    _options: ClientOptions

    @property
    def context_tokens(self) -> int | None:
        """See `HasWindow`."""
        return self._options.price_list.window(self.name)[0]

    @property
    def max_output_tokens(self) -> int | None:
        """See `HasWindow`."""
        return self._options.price_list.window(self.name)[1]

    def worst_case_usd(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> float | None:
        """See `Priced`. The input is estimated; the longest reply is what the call allows, or what the model can."""
        config = self._options.complete(config)
        bounds = (config.max_output_tokens, self.max_output_tokens)
        longest = min((bound for bound in bounds if bound is not None), default=None)
        if longest is None:
            return None
        asked = sum(estimate_message(message, self.name) for message in messages) + sum(map(estimate_tool, tools))
        spoken = config.voice is not None or any(isinstance(p, Audio) for m in messages for p in m.parts)
        return self._options.price_list.worst_case_usd(
            self.name, asked, longest, tier=self._dearest_tier, spoken=spoken, cached_for=self._cached_for
        )

    @property
    def _dearest_tier(self) -> str:
        """The service tier that calls may be served at; empty for the standard one."""
        return ""

    @property
    def _cached_for(self) -> Literal["shortest", "1h"]:
        """The longest life of a cache that calls may write to."""
        return "shortest"


def price_is_unknown(model: object) -> bool:
    """Whether it is certain beforehand that a call of this model has no known price."""
    return isinstance(model, Priced) and model.worst_case_usd((), config=GenerateConfig(max_output_tokens=1)) is None
