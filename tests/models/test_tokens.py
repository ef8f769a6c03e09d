from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest

from trellis.models.messages import Image, Reasoning, Text, ToolCall, ToolResult, assistant, user
from trellis.models.model import ToolSpec, Usage
from trellis.models.tokens import Count, count, estimate, estimate_message, estimate_usage

CACHED = hashlib.sha1(b"https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken").hexdigest()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a token count reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("é" * 8, 2)])
def test_estimate_rounds_up(text: str, tokens: int) -> None:
    assert estimate(text) == tokens


@pytest.mark.usefixtures("no_network")
def test_without_a_vocabulary_it_is_an_estimate_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert count("Hello world") == Count(3, "estimate")
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
    assert counted == Count(41, "o200k_base")


def test_messages_are_their_parts_and_four() -> None:
    call = ToolCall("1", "shell", {"command": "ls"})
    result = ToolResult("1", "shell", (Text("x" * 40), Image(b"", "image/png")))
    assert estimate_message(user("x" * 40)) == 4 + 10
    assert estimate_message(result.message) == 4 + 10 + 1000
    assert estimate_message(assistant(call)) == 4 + 2 + estimate(str(call.arguments))
    assert estimate_message(assistant(ToolCall("1", "shell", malformed="{" * 8))) == 4 + 2 + 2


def test_usage() -> None:
    tool = ToolSpec("look", "x" * 8, {})
    usage = estimate_usage([user("x" * 40)], assistant(Reasoning("y" * 20), "z" * 12), [tool])
    assert usage == Usage(input=14 + 1 + 2 + 1, output=4 + 5 + 3, reasoning=5)
