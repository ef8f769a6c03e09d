"""Old snapshots taken out of a conversation.

A browser's result that shows a page carries `data["snapshot"]`: its `number`, whether it shows the `whole` page, the
number of the last snapshot that it `supersedes` (0: none), and `at`, where in the text it begins. A whole snapshot
makes all earlier ones needless. A tool cannot rewrite what a model was told; a scaffold can:

    messages[:] = collapse(messages)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from trellis.models.messages import Image, Message, Part, Text, ToolResult

NOTICE = "[snapshot {number} was here; a later one shows the page]"
PICTURE = "[a screenshot was here]"


def collapse(messages: Iterable[Message], *, keep_images: int = 2) -> list[Message]:
    """The same conversation, in which superseded snapshots are one line, and the browser's pictures are gone but for
    the last `keep_images`.

    A message in which nothing changes is the same object, so what was recorded of it stays valid; collapsing twice
    changes nothing. What changes is new to a provider's cache from there on.
    """
    messages = list(messages)
    newest, pictures = 0, 0
    out: list[Message] = []
    for message in reversed(messages):
        parts: list[Part] = []
        for part in reversed(message.parts):
            if isinstance(part, ToolResult) and "action" in part.data and part.name == "browser":
                result = _without_snapshot(part, newest)
                newest = max(newest, part.data.get("snapshot", {}).get("supersedes", 0))
                images = sum(isinstance(inner, Image) for inner in result.parts)
                if images and pictures >= keep_images:
                    result = replace(result, parts=_without_images(result.parts))
                pictures += images
                part = result
            parts.append(part)
        parts.reverse()
        same = all(a is b for a, b in zip(parts, message.parts, strict=True))
        out.append(message if same else replace(message, parts=tuple(parts)))
    out.reverse()
    return out


def _without_snapshot(result: ToolResult, newest: int) -> ToolResult:
    snapshot = result.data.get("snapshot")
    if not snapshot or snapshot["number"] > newest:
        return result
    at: int = snapshot["at"]
    parts = tuple(
        Text(part.text[:at] + NOTICE.format(number=snapshot["number"])) if isinstance(part, Text) else part
        for part in result.parts
    )
    data = {key: value for key, value in result.data.items() if key != "snapshot"}
    return replace(result, parts=parts, data=data)


def _without_images(parts: Sequence[Text | Image]) -> tuple[Text | Image, ...]:
    return tuple(Text(PICTURE) if isinstance(part, Image) else part for part in parts)
