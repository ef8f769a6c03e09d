"""OpenAI's Chat Completions as a strict server speaks it, and as lesser servers do."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

from .brain import Ask, Thought, think
from .loopback import JSON, Request, Response
from .openai_content import Contents, Rejected, check_effort, check_key, check_schema, check_tool, digest, known, pieces
from .voice import Voices

_SHOWN = "Images of"
"""How the client's own message for images of tool results begins."""


@dataclass
class ChatServer:
    """`POST /chat/completions`, as the specification has it, or (`sloppy`) as lesser servers do it."""

    sloppy: bool = False
    """No usage, no call ids, arguments as objects, content in pieces."""
    reasoning_field: str = "reasoning_content"
    keyed: bool = False
    """A key is needed."""
    knows_usage: bool = True
    """Takes `stream_options`."""
    window: int | None = None
    """Tokens of input that it takes."""
    voices: Voices | None = None
    """It hears and speaks, and takes no call without any sound."""
    extra: JSON = field(default_factory=dict)
    """More members of every answer."""

    def handle(self, request: Request) -> Response:
        try:
            if self.keyed:
                check_key(request)
            if request.path != "/chat/completions":
                raise Rejected("Not found", 404)
            body = request.body
            thought = think(self._ask(body))
            answer = self._answer(body, thought) | self.extra
            return Response(answer, events=self._events(answer, body) if body.get("stream") else ())
        except Rejected as rejected:
            return rejected.response

    # --- the request ---

    def _ask(self, body: JSON) -> Ask:
        known(body, CompletionCreateParamsNonStreaming, "body")
        if "stream_options" in body and not (self.knows_usage and body.get("stream")):
            raise Rejected("The 'stream_options' parameter is only allowed when 'stream' is enabled.")
        if self.window is not None and _size(body) > self.window:
            raise Rejected(
                f"This model's maximum context length is {self.window} tokens. However, your messages resulted in "
                f"{_size(body)} tokens. Please reduce the length of the messages.",
            )
        check_effort(body["model"], body.get("reasoning_effort"))
        limit = body.get("max_tokens", body.get("max_completion_tokens"))
        ask = Ask(tools=[check_tool(tool["function"]) for tool in body.get("tools", ())], max_tokens=limit)
        choice = body.get("tool_choice")
        ask.tool_choice = choice["function"]["name"] if isinstance(choice, dict) else choice
        if form := body.get("response_format", {}).get("json_schema"):
            ask.schema = check_schema(form)
        self._read(body["messages"], ask)
        if self.voices:
            self.voices.check(body, heard=bool(ask.sounds))
        return ask

    def _read(self, messages: list[JSON], ask: Ask) -> None:
        contents = Contents(ask)
        open_calls: set[str] = set()
        for message in messages:
            if message["role"] != "tool" and open_calls:
                raise Rejected(f"tool_call_ids did not have response messages: {sorted(open_calls)}")
            match message["role"]:
                case "assistant":
                    open_calls = self._assistant(message)
                case "tool":
                    if message["tool_call_id"] not in open_calls:
                        raise Rejected("messages with role 'tool' must follow a message with 'tool_calls'.")
                    open_calls.remove(message["tool_call_id"])
                    ask.results.append(str(message["content"]))
                case "user":
                    self._user(message["content"], ask, contents)
                case "system" | "developer" if isinstance(message["content"], str):
                    pass
                case other:
                    raise Rejected(f"Invalid message with role {other}.")
        if open_calls:
            raise Rejected(f"tool_call_ids did not have response messages: {sorted(open_calls)}")

    def _assistant(self, message: JSON) -> set[str]:
        calls = message.get("tool_calls", ())
        if audio := message.get("audio"):
            if self.voices is None:
                raise Rejected("Invalid parameter: 'audio'.")
            self.voices.recall(audio)
        elif not calls and not isinstance(message["content"], str):
            raise Rejected("Invalid value for 'content': expected a string, got null.")
        if not all(isinstance(call["function"]["arguments"], str) for call in calls):
            raise Rejected("Invalid type for 'arguments': expected a string.")
        ids = {call["id"] for call in calls}
        if len(ids) != len(calls):
            raise Rejected("Duplicate tool call ids.")
        return ids

    def _user(self, content: Any, ask: Ask, contents: Contents) -> None:
        if isinstance(content, str):
            ask.turn(content)
            return
        text = "\n".join(piece["text"] for piece in content if piece["type"] == "text")
        if not text.startswith(_SHOWN):
            ask.turn(text)
        for piece in content:
            match piece["type"]:
                case "text":
                    pass
                case "image_url" if self.voices is None:
                    contents.image(piece["image_url"]["url"])
                case "input_audio" if self.voices or not self.keyed:
                    contents.audio(piece["input_audio"])
                case "file" if self.voices is None:
                    contents.file(piece["file"], "application/pdf")
                case other:
                    raise Rejected(f"Invalid content type {other} for this model.")

    # --- the answer ---

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
        size, spent = _size(body), len(thought.text.split()) + 10
        usage: JSON = {"prompt_tokens": size, "completion_tokens": spent, "total_tokens": size + spent}
        if self.voices:
            del message[self.reasoning_field]
            usage |= self.voices.speak(body, message)
        answer = {
            "id": stamp,
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
            "usage": usage,
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
        audio = message.get("audio")
        deltas += self.voices.deltas(audio) if self.voices and audio else []
        base = {"id": answer.get("id"), "object": "chat.completion.chunk", "model": body["model"]} | self.extra
        sent: list[JSON | str] = [
            {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
        ]
        sent.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": choice.get("finish_reason")}]})
        if audio:
            expiry = {"audio": {"expires_at": audio["expires_at"]}}
            sent.append({**base, "choices": [{"index": 0, "delta": expiry}]})
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


def _size(body: JSON) -> int:
    return len(json.dumps([body["messages"], body.get("tools")])) // 4 + 20


def _sloppy(answer: JSON) -> JSON:
    message = answer["choices"][0]["message"]
    for call in message.get("tool_calls", ()):
        del call["id"]
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    if message.get("content"):
        message["content"] = [{"type": "text", "text": message["content"]}]
    finish = answer["choices"][0]["finish_reason"]
    return {"choices": [{"message": message} | ({"finish_reason": finish} if finish == "length" else {})]}
