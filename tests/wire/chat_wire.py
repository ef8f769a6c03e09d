"""OpenAI's Chat Completions as a strict server speaks it, and as lesser servers do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

from .brain import Ask, Thought, think
from .loopback import JSON, Request, Response
from .openai_wire import Rejected, data_url, digest, known, pieces


@dataclass
class ChatServer:
    """`POST /chat/completions`, as the specification has it, or (`sloppy`) as lesser servers do it."""

    sloppy: bool = False
    """No usage, no call ids, arguments as objects, content in pieces."""
    reasoning_field: str = "reasoning_content"

    def handle(self, request: Request) -> Response:
        try:
            if request.path != "/chat/completions":
                raise Rejected("Not found", 404)
            answer = self._answer(request.body, think(self._ask(request.body)))
            return Response(answer, events=self._events(answer, request.body) if request.body.get("stream") else ())
        except Rejected as rejected:
            return rejected.response

    def _ask(self, body: JSON) -> Ask:
        known(body, CompletionCreateParamsNonStreaming, "body")
        if "stream_options" in body and not body.get("stream"):
            raise Rejected("The 'stream_options' parameter is only allowed when 'stream' is enabled.")
        ask = Ask(tools=[tool["function"]["name"] for tool in body.get("tools", ())], max_tokens=body.get("max_tokens"))
        choice = body.get("tool_choice")
        ask.tool_choice = choice["function"]["name"] if isinstance(choice, dict) else choice
        ask.schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        open_calls: set[str] = set()
        for message in body["messages"]:
            if message["role"] != "tool" and open_calls:
                raise Rejected(f"tool_call_ids did not have response messages: {sorted(open_calls)}")
            match message["role"]:
                case "assistant":
                    calls = message.get("tool_calls", ())
                    if not calls and not isinstance(message["content"], str):
                        raise Rejected("Invalid value for 'content': expected a string, got null.")
                    if not all(isinstance(call["function"]["arguments"], str) for call in calls):
                        raise Rejected("Invalid type for 'arguments': expected a string.")
                    open_calls = {call["id"] for call in calls}
                    if len(open_calls) != len(calls):
                        raise Rejected("Duplicate tool call ids.")
                case "tool":
                    if message["tool_call_id"] not in open_calls:
                        raise Rejected("messages with role 'tool' must follow a message with 'tool_calls'.")
                    open_calls.remove(message["tool_call_id"])
                    ask.results.append(str(message["content"]))
                case "user":
                    self._user(message["content"], ask)
                case "system" if isinstance(message["content"], str):
                    pass
                case other:
                    raise Rejected(f"Invalid message with role {other}.")
        if open_calls:
            raise Rejected(f"tool_call_ids did not have response messages: {sorted(open_calls)}")
        return ask

    def _user(self, content: Any, ask: Ask) -> None:
        if isinstance(content, str):
            ask.turn(content)
            return
        text = "\n".join(piece["text"] for piece in content if piece["type"] == "text")
        if not text.startswith("Images of"):  # the client's own message for images of tool results
            ask.turn(text)
        ask.images.extend(data_url(piece["image_url"]["url"]) for piece in content if piece["type"] == "image_url")

    def _answer(self, body: JSON, thought: Thought) -> JSON:
        stamp = digest(body)[:12]
        message: JSON = {"role": "assistant", "content": thought.text or None, self.reasoning_field: "Hm."}
        if thought.refuses:
            message |= {"content": None, "refusal": thought.text}
        if thought.calls:
            message["tool_calls"] = [
                {
                    "id": f"call_{stamp}{n}",
                    "type": "function",
                    "function": {"name": name, "arguments": json.dumps(arguments)},
                }
                for n, (name, arguments) in enumerate(thought.calls)
            ]
        reason = "length" if thought.cut_off else "tool_calls" if thought.calls else "stop"
        size, spent = len(json.dumps(body["messages"])) // 4 + 20, len(thought.text.split()) + 10
        answer = {
            "id": stamp,
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
            "usage": {"prompt_tokens": size, "completion_tokens": spent, "total_tokens": size + spent},
        }
        return _sloppy(answer) if self.sloppy else answer

    def _events(self, answer: JSON, body: JSON) -> list[JSON | str]:
        choice = answer["choices"][0]
        message = choice["message"]
        deltas: list[JSON] = [{"role": "assistant", "content": ""}]
        for name in (self.reasoning_field, "content", "refusal"):
            if isinstance(text := message.get(name), str):
                deltas += [{name: piece} for piece in pieces(text)]
            elif text:
                deltas.append({name: text})
        for index, call in enumerate(message.get("tool_calls", ())):
            deltas += [{"tool_calls": [delta]} for delta in self._call_deltas(index, call)]
        base = {"id": answer.get("id"), "object": "chat.completion.chunk", "model": body["model"]}
        sent: list[JSON | str] = [
            {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
        ]
        sent.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": choice.get("finish_reason")}]})
        if body.get("stream_options", {}).get("include_usage") and "usage" in answer:
            sent.append({**base, "choices": [], "usage": answer["usage"]})
        return [*sent, "[DONE]"]

    def _call_deltas(self, index: int, call: JSON) -> list[JSON]:
        if self.sloppy:  # in one piece, without an index
            return [call]
        function = call["function"]
        first = {**call, "index": index, "function": {"name": function["name"], "arguments": ""}}
        rest = [{"index": index, "function": {"arguments": piece}} for piece in pieces(function["arguments"])]
        return [first, *rest]


def _sloppy(answer: JSON) -> JSON:
    message = answer["choices"][0]["message"]
    for call in message.get("tool_calls", ()):
        del call["id"]
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    if message.get("content"):
        message["content"] = [{"type": "text", "text": message["content"]}]
    finish = answer["choices"][0]["finish_reason"]
    return {"choices": [{"message": message} | ({"finish_reason": finish} if finish == "length" else {})]}
