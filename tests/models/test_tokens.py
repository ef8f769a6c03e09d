from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest

from trellis.models.messages import Document, Image, Reasoning, Text, ToolCall, ToolResult, assistant, user
from trellis.models.model import TokenCount, ToolSpec, Usage
from trellis.models.tokens import ESTIMATE_ERROR, count, estimate, estimate_message, estimate_tool, estimate_usage

CACHED = hashlib.sha1(b"https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken").hexdigest()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a token count reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


TEXTS = {
    "prose": "When the results came back, nobody was surprised that the smaller model had done better on the longer "
    "questions; what nobody could explain was why it had also been the cheaper one to train. " * 8,
    "Python": "def total(values: list[float], *, start: int = 0) -> float:\n"
    "    for index, value in enumerate(values):\n"
    "        if index >= start and value is not None:\n"
    "            self.sum_of_squares += value**2\n"
    "    return -1.5\n\n" * 8,
    "listing": "\n".join(
        f"-rw-r--r-- 1 root root {n * 7919 % 99991:>8} Mar {n % 28 + 1:2} 10:{n % 60:02} file_{n}.txt"
        for n in range(40)
    ),
    "JSON": str(
        [
            {"id": n * 7919 % 99991, "name": "Order Item", "price": n * 1.37, "tags": ["red", "in-stock"]}
            for n in range(30)
        ]
    ).replace("'", '"'),
    "table": "\n".join(
        ",".join(f"{(row * 31 + column * 17) % 997 / 7:.4f}" for column in range(8)) for row in range(40)
    ),
    "tabs": "\n".join("\t".join(str((row * 37 + column * 101) % 1000) for column in range(8)) for row in range(40)),
}

O200K = {"prose": 297, "Python": 456, "listing": 1055, "JSON": 1031, "table": 1599, "tabs": 639}
"""What o200k_base makes of them (bpe-openai 0.1.4)."""


@pytest.mark.parametrize("kind", TEXTS)
def test_an_estimate_is_near_the_truth_for_every_kind_of_text(kind: str) -> None:
    assert estimate(TEXTS[kind]) == pytest.approx(O200K[kind], rel=ESTIMATE_ERROR)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("a", 1), ("word " * 100, 95), ("1234567", 5), ("\n", 2), ("!?", 1), ("汉字" * 50, 80), ("\ud800", 1)],
)
def test_estimate(text: str, tokens: int) -> None:
    assert estimate(text) == tokens


def test_the_estimate_of_two_texts_is_about_that_of_both_together() -> None:
    whole = "\n".join(TEXTS.values())
    assert estimate(whole) == pytest.approx(sum(map(estimate, TEXTS.values())), rel=0.01)


@pytest.mark.usefixtures("no_network")
def test_without_a_vocabulary_it_is_an_estimate_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert count("Hello world") == TokenCount(2, "estimate")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    assert count("Hello world").method == "estimate"


@pytest.mark.usefixtures("no_network")
def test_damaged_vocabulary_is_neither_used_nor_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tiktoken itself would delete it and download another."""
    (tmp_path / CACHED).write_bytes(b"SGVsbG8= 0\n")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert count("Hello").method == "estimate"
    assert (tmp_path / CACHED).read_bytes() == b"SGVsbG8= 0\n"


@pytest.mark.usefixtures("no_network")
def test_counts_with_the_vocabulary_where_it_is() -> None:
    counted = count("Hello, world! " * 10)
    if counted.method == "estimate":
        pytest.skip("tiktoken's o200k_base is not in its cache (TIKTOKEN_CACHE_DIR)")
    assert counted == TokenCount(41, "o200k_base")


def test_messages_are_their_parts_and_four() -> None:
    call = ToolCall("1", "shell", {"command": "ls"})
    result = ToolResult("1", "shell", (Text("x y z"), Image(b"", "image/png")))
    assert estimate_message(user("x y z")) == 4 + 3
    assert estimate_message(result.message) == 4 + 3 + 1000
    assert estimate_message(assistant(call)) == 4 + 1 + estimate(str(call.arguments))
    assert estimate_message(assistant(ToolCall("1", "shell", malformed="{" * 8))) == 4 + 1 + estimate("{" * 8)
    assert estimate_message(user(Document(b"x y z", "text/plain"))) == 4 + 3


def test_sealed_reasoning_counts_by_its_length() -> None:
    sealed = {"provider": "openai", "item": {"type": "reasoning", "encrypted_content": "A" * 1600}}
    assert estimate_message(assistant(Reasoning("x y z", sealed))) == 4 + 300
    assert estimate_message(assistant(Reasoning("x y z", {"provider": "anthropic", "item": {}}))) == 4 + 3


def test_usage() -> None:
    tool = ToolSpec("look", "x y", {})
    usage = estimate_usage([user("x y z")], assistant(Reasoning("u v"), "z"), [tool])
    assert usage == Usage(input=4 + 3 + estimate_tool(tool), output=4 + 2 + 1, reasoning=2)
