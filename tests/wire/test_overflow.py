"""A conversation that is too long is told in many words, and what only sounds like it is something else."""

from __future__ import annotations

from typing import Any

import pytest

from trellis.models.model import ContextOverflow, ModelRequestError

from .conftest import Connect
from .loopback import Fault
from .talk import PING

pytestmark = pytest.mark.wire

OVERFLOWS: dict[str, tuple[int, Any]] = {
    "OpenAI, Responses": (400, "Your input exceeds the context window of this model."),
    "OpenAI, vLLM": (400, "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens."),
    "vLLM, older": (400, {"object": "error", "message": "max_tokens must be at least 1, got -186.", "code": 400}),
    "vLLM, engine": (400, {"message": "The prompt (total length 25938) is too long to fit into the model"}),
    "llama.cpp": (400, "request (4390 tokens) exceeds the available context size (4096 tokens), try increasing it"),
    "llama.cpp, under 500": (
        500,
        {"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}},
    ),
    "llama.cpp, under 200": (
        200,
        {"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error", "n_ctx": 8192}},
    ),
    "llama-cpp-python": (400, "Requested tokens (2285) exceed context window of 2048"),
    "Ollama": (500, {"error": "prompt too long; exceeded max context length by 12 tokens"}),
    "LiteLLM": (400, "litellm.ContextWindowExceededError: no"),
    "Together, SGLang": (400, "The input (516368 tokens) is longer than the model's context length (262144 tokens)."),
    "SGLang": (400, "Requested token count exceeds the model's maximum context length of 4096 tokens."),
    "Mistral": (400, "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"),
    "xAI": (400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens"),
    "Bedrock": (413, "Input is too long for requested model."),
    "Gemini": (400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
    "Anthropic": (400, "prompt is too long: 210000 tokens > 200000 maximum"),
    "Anthropic, with max_tokens": (400, "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000"),
}
"""As reported in the issues of these projects."""


def fault(status: int, said: Any) -> Fault:
    return Fault(status=status, body={"error": {"message": said}} if isinstance(said, str) else said)


@pytest.mark.parametrize("who", OVERFLOWS)
async def test_too_long_in_whichever_words(connect: Connect, who: str) -> None:
    wire = await connect("openai-compatible")
    wire.loopback.faults.append(fault(*OVERFLOWS[who]))
    with pytest.raises(ContextOverflow, match="longer than the model's context window; send less") as caught:
        await wire.load().generate([PING])
    assert "\n" not in str(caught.value)
    assert len(wire.loopback.requests) == 1


@pytest.mark.parametrize(
    "said",
    [
        "image exceeds 5 MB maximum: 6500712 bytes > 5242880 bytes",
        "string too long. Expected a string with maximum length 64",
        "max_tokens must be at least 1, got 0.",
    ],
)
async def test_other_limits_are_not_the_context_window(connect: Connect, said: str) -> None:
    wire = await connect("openai-compatible")
    wire.loopback.faults.append(fault(400, said))
    with pytest.raises(ModelRequestError) as caught:
        await wire.load().generate([PING])
    assert not isinstance(caught.value, ContextOverflow)


async def test_a_rate_of_tokens_is_not_the_context_window(connect: Connect) -> None:
    wire = await connect("openai")
    said = "Request too large for gpt-5 on tokens per min (TPM): Limit 30000, Requested 40000. context window exceeded"
    wire.loopback.faults.append(fault(429, said))
    assert (await wire.load().generate([PING])).text == "pong"
