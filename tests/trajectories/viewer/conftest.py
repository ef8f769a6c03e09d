"""Trajectories as a viewer gets them, and the viewer itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from trellis.models.messages import Image, Message, Reasoning, Text, ToolCall, ToolResult, assistant, part_to_json, user
from trellis.models.model import GenerateConfig, Reply, Usage
from trellis.trajectories.disk import is_held
from trellis.trajectories.recorder import Recorder
from trellis.trajectories.viewer.server import Viewer
from trellis.trajectories.viewer.shelf import LibraryShelf

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f00010501012718e3660000"
    "000049454e44ae426082"
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="window.canary=1"><script>window.canary=1</script></svg>'


class Written:
    """A log that is written as an episode would write it."""

    def __init__(self, folder: Path, episode: Mapping[str, Any] | None = None, **header: Any) -> None:
        named = episode or {"benchmark": "b", "task": "t", "agent": "react", "epoch": 1}
        self.recorder = Recorder(folder, {"episode": named, **header})
        self.path = folder / "trajectory.jsonl"
        self._messages: dict[str, list[Message]] = {}
        self._count = 0

    def branch(self, name: str, origin: str = "main") -> None:
        self.recorder.once("branch", name, origin=origin, position=0)

    async def step(
        self,
        said: str = "I look.",
        calls: Sequence[tuple[str, Mapping[str, Any], str]] = (),
        *,
        branch: str = "main",
        asked: str = "Go.",
        think: str = "",
        images: Sequence[bytes] = (),
        error: bool = False,
        changes: Sequence[Mapping[str, Any]] = (),
        data: Mapping[str, Any] | None = None,
        model: str = "test/model",
        cost_usd: float | None = 0.25,
    ) -> None:
        messages = self._messages.setdefault(branch, [user(asked)])
        made = []
        for name, arguments, _ in calls:
            self._count += 1
            made.append(ToolCall(f"c{self._count}", name, arguments))
        thoughts = [Reasoning(think)] if think else []

        async def reply() -> Reply:
            return Reply(assistant(*thoughts, said, *made), "tool_calls", Usage(input=10, output=5), cost_usd, 0.5)

        answered, _ = await self.recorder.generate(branch, "main", model, messages, (), GenerateConfig(), reply)
        messages.append(answered.message)
        for call, (_, _, came) in zip(made, calls, strict=True):
            pictures = tuple(Image(image, "image/png") for image in images)
            facts = {"exit_code": 0} if data is None else data
            result = ToolResult(call.id, call.name, (Text(came), *pictures), is_error=error, data=facts)

            async def answer(result: ToolResult = result) -> Mapping[str, Any]:
                recorded = part_to_json(result, self.recorder.blobs.store)
                return {"result": recorded, "handed_in": None, "changes": list(changes), "more_changes": 0}

            await self.recorder.effect("act", branch, part_to_json(call), answer)
            messages.append(result.message)

    def node(self, **data: Any) -> None:
        """A node of a tree search."""
        self.recorder.once("note.node", "main", data=data)

    def change(self, path: str, after: str, before: str | None = None) -> dict[str, Any]:
        """A file that a call changed, as it is recorded."""
        name = self.recorder.blobs.store(after.encode("utf-8", "surrogatepass"))
        change: dict[str, Any] = {"path": path, "kind": "added" if before is None else "modified", "mode": 0o100644}
        change |= {"size": len(after), "sha256": name, "text": True}
        if before is not None:
            change["before"] = {"blob": self.recorder.blobs.store(before.encode())}
        return change

    def close(self) -> Path:
        self.recorder.close()
        return self.path


@dataclass
class Logs:
    """A library of trajectories by name."""

    logs: dict[str, Path]
    ended: dict[str, Any]

    def first(self) -> Mapping[str, Any]:
        return {"view": "episode", "episode": next(iter(self.logs)), "run": None}

    def runs(self) -> Sequence[Mapping[str, Any]]:
        return []

    def run(self, run: str) -> Mapping[str, Any]:
        raise KeyError(f"there is no run {run!r}")

    def log(self, episode: str) -> Path:
        if episode not in self.logs:
            raise KeyError(f"there is no episode {episode!r}")
        return self.logs[episode]

    def result(self, episode: str) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = self.ended.get(episode)
        return found

    def live(self, episode: str) -> bool:
        return is_held(self.log(episode))


def shelf_of(log: Path, result: Any = None) -> LibraryShelf:
    """A shelf with one trajectory, `e`."""
    return LibraryShelf(Logs({"e": log}, {"e": result}))


@dataclass
class Client:
    """Asks a viewer without being a browser. Addresses are those below its root."""

    viewer: Viewer
    cookie: str = ""

    def __call__(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> HTTPResponse:
        return self.at(self.viewer.root + path, method, body, **headers)

    def at(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> HTTPResponse:
        connection = HTTPConnection("127.0.0.1", self.viewer.port, timeout=20)
        given = {"Cookie": self.cookie} if self.cookie else {}
        connection.request(method, path, body=body, headers={**given, **headers})
        answer = connection.getresponse()
        answer.text = answer.read().decode("utf-8", "replace")  # type: ignore[attr-defined]
        connection.close()
        return answer

    def text(self, path: str, status: int = 200) -> str:
        answer = self(path)
        text: str = answer.text  # type: ignore[attr-defined]
        assert answer.status == status, (answer.status, text)
        return text


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    log = Written(tmp_path / "episode")
    yield log
    log.close()
