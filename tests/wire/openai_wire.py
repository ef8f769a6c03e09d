"""OpenAI's Responses as a strict server speaks it."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from openai.types.responses import FunctionToolParam, ResponseReasoningItemParam
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from openai.types.responses.response_function_tool_call_param import ResponseFunctionToolCallParam

from .brain import Ask, Thought, think
from .loopback import JSON, Request, Response

KEY = "sk-test-0123456789abcdef"


class Rejected(Exception):
    """The request is wrong."""

    def __init__(self, message: str, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.response = Response(
            {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}, status
        )


def known(value: Any, typed_dict: Any, where: str) -> None:
    """Reject members that the SDK's own type does not have."""
    if unknown := set(value) - typed_dict.__required_keys__ - typed_dict.__optional_keys__:
        raise Rejected(f"Unknown parameter: '{where}.{sorted(unknown)[0]}'.", code="unknown_parameter")


def check_key(request: Request) -> None:
    if request.headers.get("authorization") != f"Bearer {KEY}":
        said = request.headers.get("authorization", "").removeprefix("Bearer ")
        raise Rejected(f"Incorrect API key provided: {said}.", 401, "invalid_api_key")


def data_url(url: str) -> bytes:
    head, _, data = url.partition(";base64,")
    if not head.startswith("data:image/"):
        raise Rejected(f"Invalid image URL: {url[:40]}")
    return base64.b64decode(data, validate=True)


def pieces(text: str, size: int = 5) -> list[str]:
    """A text in the deltas of a stream."""
    return [text[at : at + size] for at in range(0, len(text), size)]


def digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass
class ResponsesServer:
    """`POST /responses`, stateless: what the client does not send back unchanged is lost, or an error."""

    emitted: dict[str, JSON] = field(default_factory=dict)
    """Items by id."""
    led_to: dict[str, str] = field(default_factory=dict)
    """Of an emitted item's id, the reasoning item that must stand before it."""
    status: str = "completed"
    error: JSON | None = None

    def handle(self, request: Request) -> Response:
        try:
            check_key(request)
            if request.path != "/responses":
                raise Rejected("Not found", 404)
            answer = self._answer(request.body, think(self._ask(request.body)))
            return Response(answer, events=events(answer) if request.body.get("stream") else ())
        except Rejected as rejected:
            return rejected.response

    def _ask(self, body: JSON) -> Ask:
        known(body, ResponseCreateParamsNonStreaming, "body")
        if body.get("store") is not False or "reasoning.encrypted_content" not in body.get("include", []):
            raise Rejected("this server keeps no state: store must be false and reasoning must be included")
        ask = Ask(tools=[self._tool(tool) for tool in body.get("tools", ())], max_tokens=body.get("max_output_tokens"))
        if body.get("parallel_tool_calls") is not None and not ask.tools:
            raise Rejected("'parallel_tool_calls' is only allowed when 'tools' are specified.")
        if ask.max_tokens is not None and ask.max_tokens < 16:
            raise Rejected("Invalid 'max_output_tokens': expected a value >= 16.")
        choice = body.get("tool_choice")
        ask.tool_choice = choice["name"] if isinstance(choice, dict) else choice
        ask.schema = body.get("text", {}).get("format", {}).get("schema")
        self._read(body["input"], ask)
        return ask

    def _tool(self, tool: JSON) -> str:
        known(tool, FunctionToolParam, "tools")
        if missing := {"type", "name", "parameters", "strict"} - tool.keys():
            raise Rejected(f"Missing required parameter: 'tools.{sorted(missing)[0]}'.")
        return str(tool["name"])

    def _read(self, items: list[JSON], ask: Ask) -> None:
        open_calls: set[str] = set()
        for item, follower in zip(items, [*items[1:], None], strict=True):
            if item["type"] != "function_call_output" and item["type"] != "function_call" and open_calls:
                raise Rejected(f"No tool output found for function call {min(open_calls)}.")
            match item["type"]:
                case "message" if item["role"] == "assistant":
                    self._unchanged(item, items)
                case "message":
                    self._message(item, ask)
                case "reasoning":
                    known(item, ResponseReasoningItemParam, "input")
                    self._unchanged(item, items)
                    if follower is None or follower["type"] not in ("message", "function_call"):
                        raise Rejected(
                            f"Item '{item['id']}' of type 'reasoning' was provided without its required following item."
                        )
                case "function_call":
                    known(item, ResponseFunctionToolCallParam, "input")
                    json.loads(item["arguments"])
                    self._unchanged(item, items)
                    open_calls.add(item["call_id"])
                case "function_call_output":
                    if item["call_id"] not in open_calls:
                        raise Rejected(f"No tool call found for function call output with call_id {item['call_id']}.")
                    open_calls.remove(item["call_id"])
                    self._output(item, ask)
                case other:
                    raise Rejected(f"Invalid value: '{other}'.")
        if open_calls:
            raise Rejected(f"No tool output found for function call {min(open_calls)}.")

    def _message(self, item: JSON, ask: Ask) -> None:
        texts, images = self._contents(item["content"])
        if item["role"] == "user":
            ask.turn("\n".join(texts))
        ask.images.extend(images)

    def _output(self, item: JSON, ask: Ask) -> None:
        output = item["output"]
        texts, images = ([output], []) if isinstance(output, str) else self._contents(output)
        ask.results.append("\n".join(texts))
        ask.images.extend(images)

    def _contents(self, contents: list[JSON]) -> tuple[list[str], list[bytes]]:
        texts = [content["text"] for content in contents if content["type"] == "input_text"]
        images = [data_url(content["image_url"]) for content in contents if content["type"] == "input_image"]
        if len(texts) + len(images) != len(contents):
            raise Rejected(f"Invalid content types: {[content['type'] for content in contents]}")
        return texts, images

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

    def _answer(self, body: JSON, thought: Thought) -> JSON:
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
        for item in output:
            self.emitted[item["id"]] = item
            if item["type"] != "reasoning":
                self.led_to[item["id"]] = f"rs_{stamp}"
        size = len(json.dumps(body["input"])) // 4 + 50
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
            "service_tier": "default",
            "usage": {
                "input_tokens": size,
                "output_tokens": spent,
                "total_tokens": size + spent,
                "input_tokens_details": {"cached_tokens": size // 2 if seen else 0, "cache_write_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 64},
            },
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
