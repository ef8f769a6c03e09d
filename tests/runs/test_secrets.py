"""Keys are in no file of a run, no output, no traceback and no world, although the server and the agent try."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from trellis.models.catalog import close, load
from trellis.models.messages import user
from trellis.models.model import ModelRequestError
from trellis.trajectories.log import read
from trellis.trajectories.packing import pack
from trellis.trajectories.redaction import Redaction

pytestmark = pytest.mark.wire

SECRETS = {
    name: f"{prefix}very+secret/{index}-0123456789abcdef=="
    for index, (name, prefix) in enumerate(
        {
            "OPENAI_API_KEY": "sk-proj-",
            "ANTHROPIC_API_KEY": "sk-ant-",
            "AZURE_OPENAI_API_KEY": "azure-",
            "AWS_ACCESS_KEY_ID": "AKIA",
            "AWS_SECRET_ACCESS_KEY": "aws",
            "AWS_SESSION_TOKEN": "session",
            "AWS_BEARER_TOKEN_BEDROCK": "bedrock-",
            "HF_TOKEN": "hf_",
            "GATEWAY": "named-like-no-key-",
        }.items()
    )
}
MODELS = {
    "openai/gpt-5-mini": "OPENAI_API_KEY",
    "anthropic/claude-haiku-4-5": "ANTHROPIC_API_KEY",
    "openai-compatible/m": "GATEWAY",
}


def forms(secret: str) -> list[str]:
    return [secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode()]


class Parrot(BaseHTTPRequestHandler):
    """Says the key back in every header and body: first with 429, then in answers, or always with 401."""

    protocol_version = "HTTP/1.1"
    always_refuses = False
    turn = 0

    def log_message(self, *_: object) -> None:
        return

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        sent = self.headers.get("x-api-key") or self.headers["authorization"].removeprefix("Bearer ")
        said = f"your key is {' or '.join(forms(sent))}"
        kind = type(self)
        kind.turn += 1
        if kind.always_refuses:
            return self.answer(401, {"error": {"message": said, "type": "authentication_error", "code": said}}, said)
        if kind.turn == 1:
            return self.answer(429, {"error": {"message": said, "type": "rate_limit_error"}}, said)
        command = "env; cat /proc/self/environ; cat /proc/$PPID/environ" if kind.turn == 2 else ""
        return self.answer(200, self.whole(said, command), said)

    def answer(self, status: int, body: dict[str, Any], said: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        headers = {"content-type": "application/json", "content-length": str(len(data)), "x-request-id": said}
        for name, value in {**headers, "x-ratelimit-remaining-requests": said, "retry-after-ms": "1"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def whole(self, said: str, command: str) -> dict[str, Any]:
        arguments = {"command": f"{command}; echo '{said}'"} if command else {"answer": f"12, and {said}"}
        name = "shell" if command else "submit"
        usage = {"input_tokens": 5, "output_tokens": 5, "prompt_tokens": 5, "completion_tokens": 5}
        if self.path.endswith("/messages"):
            call = {"type": "tool_use", "id": "c1", "name": name, "input": arguments}
            return {"id": "m1", "type": "message", "role": "assistant", "stop_reason": "tool_use", "usage": usage,
                    "content": [{"type": "text", "text": said}, call]}  # fmt: skip
        written = json.dumps(arguments)
        if self.path.endswith("/responses"):
            text = {"type": "message", "id": "m1", "role": "assistant", "status": "completed",
                    "content": [{"type": "output_text", "text": said, "annotations": []}]}  # fmt: skip
            function = {"type": "function_call", "id": "f1", "call_id": "c1", "name": name, "arguments": written}
            return {"id": "r1", "object": "response", "status": "completed", "output": [text, function],
                    "usage": usage}  # fmt: skip
        chat = {"id": "c1", "type": "function", "function": {"name": name, "arguments": written}}
        message = {"role": "assistant", "content": said, "reasoning_content": said, "tool_calls": [chat]}
        return {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], "usage": usage}


@contextmanager
def parrot(*, refuses: bool = False) -> Iterator[str]:
    kind = type("AParrot", (Parrot,), {"always_refuses": refuses, "turn": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


def assert_clean(text: str, where: str) -> None:
    for name, secret in SECRETS.items():
        for form in forms(secret):
            assert form[:-4] not in text, f"{name} is in {where}"


Spawn = Callable[..., subprocess.Popen[str]]


@pytest.mark.parametrize("world", ["local", "sandbox"])
@pytest.mark.parametrize("model", MODELS)
def test_a_run_keeps_its_keys(spawn: Spawn, sums: str, tmp_path: Path, model: str, world: str) -> None:
    with parrot() as url:
        process = spawn("run", f"{sums}:Sums:world", "--scaffold", "react", "--model", model, "--limit", "1",
                        "--env", world, "-M", f"base_url={url}", "-M", f"api_key_env={MODELS[model]}",
                        "-M", "retry_max_wait_s=0.01", **SECRETS, NO_PROXY="127.0.0.1")  # fmt: skip
        out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err
    logs = [path.read_text("utf-8") for path in tmp_path.rglob("trajectory.jsonl")]
    assert any("PATH=" in log for log in logs), "the agent did look at its environment"
    assert any('"throttles":1' in log for log in logs)
    assert_clean(out, "standard output")
    assert_clean(err, "standard error")
    for log in tmp_path.rglob("trajectory.jsonl"):
        pack(log)
        assert_clean("".join(map(str, read(log))), f"{log}, packed")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "submission.json" for path in files)
    for path in files:
        assert_clean(path.read_bytes().decode("utf-8", "replace"), str(path))


@pytest.mark.parametrize("model", MODELS)
def test_a_refused_key_is_not_shown(spawn: Spawn, sums: str, tmp_path: Path, model: str) -> None:
    with parrot(refuses=True) as url:
        process = spawn("run", f"{sums}:Sums:plain", "--scaffold", "react", "--model", model, "--limit", "1",
                        "-M", f"base_url={url}", "-M", f"api_key_env={MODELS[model]}",
                        **SECRETS, NO_PROXY="127.0.0.1")  # fmt: skip
        out, err = process.communicate(timeout=100)
    assert process.returncode == 1
    assert f"the key was not accepted; check {MODELS[model]}" in err
    for text, where in ((out, "standard output"), (err, "standard error")):
        assert_clean(text, where)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert_clean(path.read_bytes().decode("utf-8", "replace"), str(path))


@pytest.mark.parametrize("model", MODELS)
def test_tracebacks_with_locals_have_no_key(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    async def ask(url: str) -> ModelRequestError:
        made = load(model, {"base_url": url, "api_key_env": MODELS[model]})
        with pytest.raises(ModelRequestError) as raised:
            await made.generate([user("Hello")])
        assert_clean(repr(made) + repr(vars(made)), "the model's own representation")
        await close(made)
        return raised.value

    with parrot(refuses=True) as url:
        error: BaseException | None = asyncio.run(ask(url))
    seen = 0
    while error is not None:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next  # this test knows the keys
        told = traceback.TracebackException(type(error), error, trace, capture_locals=True)
        text = "".join(told.format())
        seen += "self = " in text
        assert_clean(text, f"the traceback of {type(error).__name__}")
        error = error.__cause__ or error.__context__
    assert seen


def test_other_spellings_of_a_secret() -> None:
    secret = 'p"ss\\word/+é 123'
    redact = Redaction({"MY_PASSWORD": secret, "NAME": "harmless-value"})
    for before in ("", "a", "ab", "abc", "user:"):
        text = base64.b64encode(f"{before}{secret} and more".encode()).decode()
        ahead, behind = redact(text).split("[redacted]")
        assert len(ahead) <= len(before) * 4 / 3 + 2
        assert len(behind) <= len(" and more") * 4 / 3 + 4
    assert redact(json.dumps({"x": secret})) == '{"x": "[redacted]"}'
    assert redact(quote(secret, safe="")) == "[redacted]"
    assert redact("harmless-value") == "harmless-value"
