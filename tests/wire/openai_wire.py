"""OpenAI's Responses as a strict server speaks it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from openai.types.responses import FunctionToolParam, ResponseReasoningItemParam
from openai.types.responses.input_token_count_params import InputTokenCountParams
from openai.types.responses.response_compact_params import ResponseCompactParams
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from openai.types.responses.response_function_tool_call_param import ResponseFunctionToolCallParam

from .brain import Ask, Thought, think
from .loopback import JSON, Request, Response
from .openai_content import (
    KEY,
    Contents,
    Rejected,
    check_effort,
    check_key,
    check_schema,
    check_tool,
    digest,
    known,
    pieces,
)

__all__ = ["KEY", "Rejected", "ResponsesServer", "digest"]


@dataclass
class ResponsesServer:
    """`POST /responses`, stateless: what the client does not send back unchanged is lost, or an error."""

    emitted: dict[str, JSON] = field(default_factory=dict)
    """Items by id."""
    led_to: dict[str, str] = field(default_factory=dict)
    """Of an emitted item's id, the reasoning item that must stand before it."""
    window: int | None = None
    """Tokens of input that it takes."""
    status: str = "completed"
    error: JSON | None = None

    def handle(self, request: Request) -> Response:
        try:
            check_key(request)
            match request.path:
                case "/responses":
                    return self._create(request.body)
                case "/responses/input_tokens":
                    return self._count(request.body)
                case "/responses/compact":
                    return self._compact(request.body)
            raise Rejected("Not found", 404)
        except Rejected as rejected:
            return rejected.response

    def _create(self, body: JSON) -> Response:
        known(body, ResponseCreateParamsNonStreaming, "body")
        reasoning = not body["model"].startswith("gpt-4")
        included = "reasoning.encrypted_content" in body.get("include", [])
        if body.get("store") is not False or (reasoning and not included):
            raise Rejected("this server keeps no state: store must be false and reasoning must be included")
        if included and not reasoning:
            raise Rejected("Encrypted content is not supported with this model.")
        check_effort(body["model"], body.get("reasoning", {}).get("effort"))
        if len(body.get("prompt_cache_key", "")) > 64:
            raise Rejected("Invalid 'prompt_cache_key': string too long.")
        if body.get("max_output_tokens", 16) < 16:
            raise Rejected("Invalid 'max_output_tokens': expected a value >= 16.")
        answer = self._answer(body, think(self._ask(body)), reasoning)
        return Response(answer, events=events(answer) if body.get("stream") else ())

    def _count(self, body: JSON) -> Response:
        known(body, InputTokenCountParams, "body")
        self._ask(body)
        return Response({"object": "response.input_tokens", "input_tokens": _size(body)})

    def _compact(self, body: JSON) -> Response:
        """All that the user said, and one item for the rest."""
        known(body, ResponseCompactParams, "body")
        self._ask(body)
        stamp = digest("compaction", body)[:12]
        item = {"id": f"cmp_{stamp}", "type": "compaction", "encrypted_content": digest("secret", stamp)}
        output: list[JSON] = [
            {**said, "id": f"msg_{stamp}{n}", "status": "completed"}
            for n, said in enumerate(body["input"])
            if said["type"] == "message" and said["role"] == "user"
        ]
        output.append(item)
        self.emitted |= {each["id"]: each for each in output}
        answer = {"id": f"resp_{stamp}", "object": "response.compaction", "created_at": 0, "output": output}
        return Response({**answer, "usage": _usage(_size(body), 0, 50, 0)})

    # --- the request ---

    def _ask(self, body: JSON) -> Ask:
        ask = Ask(tools=[self._tool(tool) for tool in body.get("tools", ())], max_tokens=body.get("max_output_tokens"))
        if body.get("parallel_tool_calls") is not None and not ask.tools:
            raise Rejected("'parallel_tool_calls' is only allowed when 'tools' are specified.")
        choice = body.get("tool_choice")
        ask.tool_choice = choice["name"] if isinstance(choice, dict) else choice
        if ask.tool_choice not in (None, "none", "auto", "required", *ask.tools):
            raise Rejected(f"Tool choice '{ask.tool_choice}' not found in 'tools' parameter.")
        if form := body.get("text", {}).get("format"):
            ask.schema = check_schema(form)
        if self.window is not None and _size(body) > self.window:
            raise Rejected(
                "Your input exceeds the context window of this model. Please adjust your input and try again.",
                code="context_length_exceeded",
            )
        self._read(body["input"], ask)
        return ask

    def _tool(self, tool: JSON) -> str:
        known(tool, FunctionToolParam, "tools")
        if missing := {"type", "name", "parameters", "strict"} - tool.keys():
            raise Rejected(f"Missing required parameter: 'tools.{sorted(missing)[0]}'.")
        return check_tool(tool)

    def _read(self, items: list[JSON], ask: Ask) -> None:
        contents = Contents(ask)
        open_calls: set[str] = set()
        seen: set[str] = set()
        for item, follower in zip(items, [*items[1:], None], strict=True):
            if item["type"] != "function_call_output" and item["type"] != "function_call" and open_calls:
                raise Rejected(f"No tool output found for function call {min(open_calls)}.")
            match item["type"]:
                case "message" if item["role"] == "assistant":
                    self._unchanged(item, items)
                case "message":
                    self._unchanged(item, items)
                    self._message(item, ask, contents)
                case "reasoning":
                    known(item, ResponseReasoningItemParam, "input")
                    self._unchanged(item, items)
                    if follower is None or follower["type"] not in ("message", "function_call", "reasoning"):
                        raise Rejected(
                            f"Item '{item['id']}' of type 'reasoning' was provided without its required following item."
                        )
                case "compaction":
                    self._unchanged(item, items)
                case "function_call":
                    known(item, ResponseFunctionToolCallParam, "input")
                    if len(item["call_id"]) > 64 or item["call_id"] in seen:
                        raise Rejected("Invalid 'input.call_id': too long, or used twice.")
                    self._unchanged(item, items)
                    open_calls.add(item["call_id"])
                    seen.add(item["call_id"])
                case "function_call_output":
                    if item["call_id"] not in open_calls:
                        raise Rejected(f"No tool call found for function call output with call_id {item['call_id']}.")
                    open_calls.remove(item["call_id"])
                    ask.results.append(self._contents(item["output"], contents))
                case other:
                    raise Rejected(f"Invalid value: '{other}'.")
        if open_calls:
            raise Rejected(f"No tool output found for function call {min(open_calls)}.")

    def _message(self, item: JSON, ask: Ask, contents: Contents) -> None:
        if item["role"] not in ("user", "developer", "system"):
            raise Rejected(
                f"Invalid value: '{item['role']}'. Supported: 'assistant', 'system', 'developer' and 'user'."
            )
        if item["role"] == "user":
            ask.turn("")
        text = self._contents(item["content"], contents)
        if item["role"] == "user":
            ask.text = text

    def _contents(self, content: str | list[JSON], contents: Contents) -> str:
        if isinstance(content, str):
            return content
        texts = []
        for part in content:
            match part["type"]:
                case "input_text":
                    texts.append(part["text"])
                case "input_image":
                    contents.image(part["image_url"])
                case "input_file":
                    contents.file(part)
                case "input_audio":
                    contents.audio(part["input_audio"])
                case other:
                    raise Rejected(f"Invalid value: '{other}'.")
        return "\n".join(texts)

    def _unchanged(self, item: JSON, items: list[JSON]) -> None:
        """What has an id must be what this server emitted, byte for byte, with the reasoning that led to it."""
        if "id" not in item:
            return
        if item != self.emitted.get(item["id"]):
            raise Rejected(f"The encrypted content of item {item['id']} could not be verified.")
        reasoning = self.led_to.get(item["id"])
        if reasoning and not any(other.get("id") == reasoning for other in items[: items.index(item)]):
            raise Rejected(
                f"Item '{item['id']}' of type '{item['type']}' was provided without its required "
                f"'reasoning' item: '{reasoning}'."
            )

    def _answer(self, body: JSON, thought: Thought, reasoning: bool) -> JSON:
        stamp = digest(body)[:12]
        output: list[JSON] = [
            {
                "id": f"rs_{stamp}",
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "Hm."}],
                "encrypted_content": digest("secret", stamp),
            },
        ]
        output += [
            {
                "id": f"fc_{stamp}{n}",
                "type": "function_call",
                "call_id": f"call_{stamp}{n}",
                "name": name,
                "arguments": json.dumps(arguments),
                "status": "completed",
            }
            for n, (name, arguments) in enumerate(thought.calls)
        ]
        if thought.text:
            kind = "refusal" if thought.refuses else "text"
            content = {"type": "refusal" if thought.refuses else "output_text", kind: thought.text}
            output.append(
                {
                    "id": f"msg_{stamp}",
                    "type": "message",
                    "role": "assistant",
                    "phase": "final_answer",
                    "status": "incomplete" if thought.cut_off else "completed",
                    "content": [content if thought.refuses else {**content, "annotations": [], "logprobs": []}],
                }
            )
        output = output if reasoning else output[1:]
        for item in output:
            self.emitted[item["id"]] = item
            if item["type"] != "reasoning" and reasoning:
                self.led_to[item["id"]] = f"rs_{stamp}"
        size = _size(body)
        seen = sum(item.get("role") == "assistant" or item["type"] == "function_call" for item in body["input"])
        spent = len(thought.text.split()) + 10 * len(thought.calls) + 64
        return {
            "id": f"resp_{stamp}",
            "object": "response",
            "created_at": 0,
            "model": body["model"],
            "status": "incomplete" if thought.cut_off else self.status,
            "error": self.error,
            "incomplete_details": {"reason": "max_output_tokens"} if thought.cut_off else None,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "service_tier": {"auto": "default", "fast": "priority"}.get(
                body.get("service_tier", "default"), body.get("service_tier", "default")
            ),
            "usage": _usage(size, size // 2 if seen else 0, spent, 64 if reasoning else 0),
        }


def _size(body: JSON) -> int:
    return len(json.dumps([body["input"], body.get("tools")])) // 4 + 50


def _usage(read: int, cached: int, written: int, reasoning: int) -> JSON:
    return {
        "input_tokens": read,
        "output_tokens": written,
        "total_tokens": read + written,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": reasoning},
    }


def events(response: JSON) -> list[JSON | str]:
    """A response as it is streamed. Reasoning that is not done has other encrypted content than in the end."""
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    sent: list[JSON] = [{"type": "response.created", "response": begun}]
    sent.append({"type": "response.in_progress", "response": begun})
    for index, item in enumerate(response["output"]):
        started = {**item, "status": "in_progress"}
        started |= {"content": []} if item["type"] == "message" else {}
        started |= {"encrypted_content": "unfinished", "summary": []} if item["type"] == "reasoning" else {}
        started |= {"arguments": ""} if item["type"] == "function_call" else {}
        at = {"item_id": item["id"], "output_index": index}
        sent.append({"type": "response.output_item.added", "output_index": index, "item": started})
        for number, content in enumerate(item.get("content") or ()):
            kind, text = ("refusal", content["refusal"]) if "refusal" in content else ("output_text", content["text"])
            inside = {**at, "content_index": number}
            sent += [{"type": f"response.{kind}.delta", **inside, "delta": delta} for delta in pieces(text)]
            sent.append({"type": f"response.{kind}.done", **inside, "text": text})
        if item["type"] == "function_call":
            kind = "response.function_call_arguments"
            sent += [{"type": f"{kind}.delta", **at, "delta": delta} for delta in pieces(item["arguments"])]
            sent.append({"type": f"{kind}.done", **at, "arguments": item["arguments"]})
        sent.append({"type": "response.output_item.done", "output_index": index, "item": item})
    sent.append({"type": f"response.{response['status']}", "response": response})
    return [{**event, "sequence_number": number} for number, event in enumerate(sent)]
