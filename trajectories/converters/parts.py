"""Parts of messages as several formats write them, read into ours."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, get_args

from trellis.models.messages import Audio, Document, Image, Media, Part, Reasoning, Text, ToolCall, Video
from trellis.models.model import Effort, GenerateConfig, StopReason, ToolSpec, Usage
from trellis.trajectories.converters import document
from trellis.trajectories.converters.converter import ConversionError, Losses

SHELLS = {"bash", "execute_bash", "run", "shell", "sh", "terminal", "run_command", "execute_command", "cmd_run"}
"""Tools of other frameworks that run a command in a shell, as our `shell` does."""
_COMMANDS = ("command", "cmd")
AS_USER = "observations that were sent as the user's messages (they are results of tool calls here)"
REMOTE = "media behind an address (only the address is kept)"


def tool_call(format: str, id: str, name: str, arguments: Any) -> ToolCall:
    """A call as the model made it. What is a shell there is our `shell`, with the original call in `raw`."""
    if isinstance(arguments, str):
        try:
            arguments = document.parse(arguments.encode("utf-8", "replace"), "arguments") if arguments.strip() else {}
        except ConversionError:
            return ToolCall(id, name, {}, arguments)
    if not isinstance(arguments, dict):
        return ToolCall(id, name, {}, json.dumps(arguments)) if arguments is not None else ToolCall(id, name)
    command = next((arguments[key] for key in _COMMANDS if isinstance(arguments.get(key), str)), None)
    if name.lower() not in SHELLS or command is None or name == "shell":
        return ToolCall(id, name, arguments)
    return ToolCall(
        id,
        "shell",
        _shell(command, arguments),
        raw={"provider": format, "item": {"name": name, "arguments": arguments}},
    )


def _shell(command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    if arguments.get("is_input") in (True, "true"):
        return {"input": command}
    timeout = next((t for key in ("timeout", "timeout_s") if (t := document.number(arguments.get(key)))), None)
    return {"command": command, "timeout_s": timeout} if timeout else {"command": command}


def openai_calls(format: str, item: Mapping[str, Any], made_up: Any) -> list[ToolCall]:
    """The `tool_calls` of a message of OpenAI's chat API. `made_up` gives an id to a call without one."""
    calls = []
    for call in document.sequence(item.get("tool_calls")):
        call = document.mapping(call)
        function = document.mapping(call.get("function")) or call
        id = document.word(call.get("id")) or made_up()
        calls.append(tool_call(format, id, document.word(function.get("name")) or "unnamed", function.get("arguments")))
    return calls


def tool_spec(item: Any) -> ToolSpec | None:
    """A tool on offer, as OpenAI describes functions or as others do; None: it is no such description."""
    item = document.mapping(item)
    function = document.mapping(item.get("function")) or item
    name = document.word(function.get("name"))
    if not name:
        return None
    parameters = document.mapping(function.get("parameters") or function.get("input_schema"))
    return ToolSpec(
        "shell" if name.lower() in SHELLS else name,
        document.text(function.get("description")),
        parameters or {"type": "object", "properties": {}},
    )


def tool_specs(items: Any) -> tuple[ToolSpec, ...]:
    return tuple(spec for item in document.sequence(items) if (spec := tool_spec(item)))


def content(value: Any, losses: Losses) -> list[Part]:
    """The `content` of a message of OpenAI's or Anthropic's: a text, or a list of parts."""
    if value is None or isinstance(value, str):
        return [Text(value)] if value else []
    parts: list[Part] = []
    for item in value if isinstance(value, list) else [value]:
        item = item if isinstance(item, dict) else {"type": "text", "text": item}
        match item.get("type"):
            case "text" | "input_text" | "output_text":
                parts.append(Text(document.text(item.get("text"))))
            case "image_url" | "input_image":
                link = item.get("image_url")
                parts.append(media(document.mapping(link).get("url") if isinstance(link, dict) else link, losses))
            case "image" if isinstance(item.get("source"), dict):
                parts.append(anthropic_image(item["source"], losses))
            case "thinking" | "redacted_thinking" | "reasoning":
                parts.append(thinking(item))
            case _:
                losses.add("parts of messages of an unknown kind (kept as JSON)")
                parts.append(Text(document.text(item)))
    return parts


def thinking(item: Mapping[str, Any]) -> Reasoning:
    """A thinking block of Anthropic's, signature and all, or readable reasoning."""
    shown = document.text(item.get("thinking") or item.get("text") or item.get("reasoning"))
    signed = item.get("type") in ("thinking", "redacted_thinking") and (item.get("signature") or item.get("data"))
    if not signed:
        return Reasoning(shown)
    kept = {name: value for name, value in item.items() if name in ("type", "thinking", "signature", "data")}
    return Reasoning(shown, {"provider": "anthropic", "item": kept})


def reasoning(item: Mapping[str, Any]) -> list[Part]:
    """What a message of OpenAI's chat API says of reasoning, as several servers and libraries write it."""
    blocks = [thinking(block) for block in document.sequence(item.get("thinking_blocks")) if isinstance(block, dict)]
    if blocks:
        return list(blocks)
    shown = document.text(item.get("reasoning_content") or item.get("reasoning"))
    return [Reasoning(shown)] if shown else []


def anthropic_image(source: Mapping[str, Any], losses: Losses) -> Part:
    if source.get("type") == "base64":
        return media(
            f"data:{document.word(source.get('media_type'))};base64,{document.text(source.get('data'))}", losses
        )
    return media(source.get("url"), losses)


_MEDIA: Mapping[str, type[Media]] = {"image": Image, "audio": Audio, "video": Video}


def media(link: Any, losses: Losses, kind: str = "image") -> Part:
    """A picture, sound or the like given as a data URI; of any other address the address is kept."""
    shown = document.text(link)
    found = data_uri(shown)
    if found is not None:
        media_type, data = found
        made: Part = _MEDIA.get(media_type.partition("/")[0], Document)(data, media_type)  # type: ignore[assignment]
        return made
    losses.add(REMOTE)
    return Text(f"[{kind}: {shown[:2000]}]")


def data_uri(link: str) -> tuple[str, bytes] | None:
    """The media type and the bytes of a base64 data URI; None: it is none."""
    if not link.startswith("data:"):
        return None
    head, comma, body = link[5:].partition(",")
    media_type, _, encoding = head.partition(";")
    if not comma or not encoding.endswith("base64"):
        return None
    try:
        return media_type[:100] or "application/octet-stream", base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return None


def bytes_of(told: Any) -> bytes | None:
    """A file as `lost.file_as_json` tells it; None: it is not told."""
    match told:
        case {"text": str(text)}:
            return text.encode("utf-8", "surrogatepass")
        case {"base64": str(body)}:
            with suppress(ValueError):
                return base64.b64decode(body, validate=True)
    return None


def openai_usage(item: Any) -> Usage:
    """Tokens as OpenAI's chat or responses API counts them, or litellm for everybody: what was read from a cache or
    written to one is part of the input there."""
    item = document.mapping(item)
    read = document.count(_inner(item, ("prompt_tokens_details", "input_tokens_details"), "cached_tokens"))
    read = max(read, document.count(item.get("cache_read_input_tokens")))
    written = document.count(item.get("cache_creation_input_tokens"))
    total = document.count(item.get("prompt_tokens", item.get("input_tokens")))
    return Usage(
        input=max(0, total - read - written),
        cache_read=read,
        cache_write=written,
        output=document.count(item.get("completion_tokens", item.get("output_tokens"))),
        reasoning=document.count(
            _inner(item, ("completion_tokens_details", "output_tokens_details"), "reasoning_tokens")
        ),
    )


def _inner(item: Mapping[str, Any], outer: tuple[str, ...], name: str) -> Any:
    return next((found for key in outer if (found := document.mapping(item.get(key)).get(name)) is not None), None)


def config(told: Mapping[str, Any]) -> GenerateConfig:
    """The settings of a call, by the names that they have here."""
    effort = told.get("reasoning_effort")
    return GenerateConfig(
        temperature=document.number(told.get("temperature")),
        max_output_tokens=document.count(told.get("max_output_tokens")) or None,
        reasoning_effort=effort if effort in get_args(Effort) else None,
        tool_choice=document.word(told.get("tool_choice")) or None,
        response_schema=document.mapping(told.get("response_schema")) or None,
        voice=document.word(told.get("voice")) or None,
        seed=document.integer(told.get("seed")),
    )


def rare(told: Mapping[str, Any]) -> dict[str, Any]:
    """What few replies have, as `telling.rare` tells it."""
    facts: dict[str, Any] = {
        "waited_s": document.number(told.get("waited_s")),
        "tier": document.word(told.get("tier")),
        "retries": document.count(told.get("retries")),
        "throttles": document.count(told.get("throttles")),
        "cached": told.get("cached") is True,
        "dropped": tuple(map(document.text, document.sequence(told.get("dropped")))),
    }
    return {name: value for name, value in facts.items() if value}


def stop_reason(value: Any) -> StopReason | None:
    reasons: dict[Any, StopReason] = {
        "stop": "stop", "end_turn": "stop", "completed": "stop", "tool_calls": "tool_calls", "tool_use": "tool_calls",
        "function_call": "tool_calls", "length": "length", "max_tokens": "length", "model_length": "length",
        "content_filter": "refusal", "refusal": "refusal",
    }  # fmt: skip
    return reasons.get(value) if isinstance(value, str) else None
