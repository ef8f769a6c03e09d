"""What a provider says when it fails, as the exception that it calls for, in one clear line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trellis.models.keys import Key
from trellis.models.limits import retry_after_s
from trellis.models.model import ContextOverflow, ModelRequestError
from trellis.models.retry import TransientError, passes


class Declined(Exception):
    """The provider turned the request down on policy grounds: a refusal, not an error."""


@dataclass(frozen=True, slots=True)
class Failures:
    """Reads the failures of one model's provider."""

    owner: str
    """The model's name; every message begins with it."""
    key: Key

    def of_response(self, status: int, body: object, headers: Mapping[str, str], message: str = "") -> Exception:
        """An answer with an error status; `message` for a body that says nothing."""
        detail = error_detail(body)
        said = self.key.one_line(detail.get("message") or message or "no reason given")
        return self._explain(f"HTTP {status}: {said}", status, _codes(detail), headers, said)

    def of_event(self, event: Mapping[str, Any], headers: Mapping[str, str] = {}) -> Exception:
        """An error that was reported under HTTP 200: in a stream, or in a body."""
        detail = error_detail(event)
        codes = _codes(detail)
        status = next((_STATUS[code] for code in codes if code in _STATUS), 0)
        status = status or next((int(c) for c in codes if c.isdigit() and 400 <= int(c) < 600), 500)
        said = self.key.one_line(detail.get("message") or "no reason given")
        return self._explain(f"{codes[0]}: {said}" if codes else said, status, codes, headers, said)

    def _explain(self, quoted: str, status: int, codes: list[str], headers: Mapping[str, str], said: str) -> Exception:
        if not _REFUSALS.isdisjoint(codes):
            return Declined(said)
        if not _TOO_LONG.isdisjoint(codes) or (status != 429 and _SAYS_TOO_LONG.search(said)):
            return ContextOverflow(f"{self.owner}: {_LONGER} ({quoted})")
        advice = next((_ADVICE_BY_CODE[code] for code in codes if code in _ADVICE_BY_CODE), None)
        if advice is None and passes(status):
            return TransientError(quoted, retry_after_s(headers), status)
        advice = advice or _ADVICE.get(status, "the request is wrong as it is")
        return ModelRequestError(f"{self.owner}: {advice.format(key=self.key.env)} ({quoted})")


def error_detail(body: object) -> Mapping[str, Any]:
    """The error object of an error body: `{"error": {...}}`, `{"error": "text"}` and the object itself occur."""
    if isinstance(body, dict):
        inner = body.get("error") or body
        return inner if isinstance(inner, dict) else {"message": inner}
    return {"message": body} if body and isinstance(body, str) else {}


def is_error(event: Mapping[str, Any]) -> bool:
    """Whether an event of a stream, or a body under HTTP 200, says nothing but that something failed.

    The type says so (Responses, Messages), the object does (vLLM), or there is an error and nothing that has a type or
    a status (Chat Completions).
    """
    if event.get("type") == "error" or event.get("object") == "error":
        return True
    return "type" not in event and "status" not in event and bool(event.get("error"))


def _codes(detail: Mapping[str, Any]) -> list[str]:
    """All that a provider gives to tell errors apart, the most exact first."""
    inner = detail.get("innererror")  # Azure's; "innerError" in its older versions
    inner = inner if isinstance(inner, dict) else {}
    return [str(code) for code in (inner.get("code"), detail.get("code"), detail.get("type")) if code]


_REFUSALS = frozenset(
    {
        # OpenAI (`openai.types.responses.ResponseError`; "content_policy_violation" is that of its other interfaces)
        "invalid_prompt",
        "bio_policy",
        "misalignment_policy_violation",
        "image_content_policy_violation",
        "content_policy_violation",
        # Azure ("Content filtering", Microsoft Learn)
        "content_filter",
        "ResponsibleAIPolicyViolation",
    }
)
_TOO_LONG = frozenset(
    {
        "context_length_exceeded",  # OpenAI, Groq
        "exceed_context_size_error",  # llama.cpp (ggml-org/llama.cpp, pull request 15780)
        "model_context_window_exceeded",  # Z.ai
        "ContextWindowExceededError",  # LiteLLM
    }
)
_SAYS_TOO_LONG = re.compile(
    r"""
    maximum\ (context|prompt|model)\ length                 # OpenAI, vLLM, SGLang, Mistral, OpenRouter, xAI
    | must\ be\ at\ least\ 1,\ got\ -                       # vLLM, where max_tokens is what the prompt leaves over
    | (longer\ than|exceeds?)\ (the|this)\ model'?s?\ .{0,20}context
    | too\ (long|large)\ (to\ fit\ into|for)\ (the|requested)?\ ?model     # vLLM, Bedrock, Mistral
    | (exceeds?|exceeding)\ (the\ )?(available\ |maximum\ |max\ )?context\ (window|size|length|limit)
    | exceeded\ max\ context\ length                        # Ollama
    | context\ (size|length|window)(\ has\ been)?\ exceeded # llama.cpp, under HTTP 500
    | context(\ window|_window|\ length)\ of\ this\ model
    | prompt\ is\ too\ long                                 # Anthropic
    | exceed\ context\ limit                                # Anthropic: input and max_tokens together
    | input\ is\ too\ long                                  # Bedrock
    | ContextWindowExceededError                            # LiteLLM
    | input\ token\ count .{0,30} exceeds\ the\ maximum     # Gemini
    """,
    re.IGNORECASE | re.VERBOSE,
)
_LONGER = "the conversation is longer than the model's context window; send less"

_STATUS: Mapping[str, int] = {
    # Anthropic ("Errors", API documentation)
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    # OpenAI (`openai.types.responses.ResponseError`, and "Error codes" of its documentation)
    "server_error": 500,
    "rate_limit_exceeded": 429,
    "vector_store_timeout": 504,
    "data_residency_mismatch": 400,
    "invalid_image": 400,
    "invalid_image_format": 400,
    "invalid_base64_image": 400,
    "invalid_image_url": 400,
    "image_too_large": 400,
    "image_too_small": 400,
    "image_parse_error": 400,
    "invalid_image_mode": 400,
    "image_file_too_large": 400,
    "unsupported_image_media_type": 400,
    "empty_image_file": 400,
    "failed_to_download_image": 400,
    "image_file_not_found": 400,
    # Amazon Bedrock, in its streams (`ResponseStream` of botocore's model "bedrock-runtime")
    "validationException": 400,
    "throttlingException": 429,
    "modelStreamErrorException": 500,
    "internalServerException": 500,
    "serviceUnavailableException": 503,
    "modelTimeoutException": 504,
    # compatible servers that name their own exceptions
    "BadRequestError": 400,
    "RateLimitError": 429,
}
"""Where an error is reported without an HTTP status, the one that its type would have had; others may pass."""
_ADVICE: Mapping[int, str] = {
    401: "the key was not accepted; check {key}",
    402: "the account cannot pay; check its billing",
    403: "the key may not do this; check the rights of {key} and of its project",
    404: "unknown model or address; check the model's name and base_url",
    413: "the request is too large; send less",
}
_ADVICE_BY_CODE: Mapping[str, str] = {
    "insufficient_quota": "the account's quota is used up; check its plan and billing",
    "billing_error": "the account cannot pay; check its billing",
    "model_not_found": "unknown model; check its name and the rights of {key}",
}
