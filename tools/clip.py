"""What becomes of raw output before a model sees it: control sequences removed, and the middle cut out of what is long.

Here and nowhere else. What is cut is kept whole in a file in the environment, and the notice says where.
"""

from __future__ import annotations

import hashlib
import re

from trellis.environments.environment import Environment

LIMIT_CHARS = 16_000
"""About 4,000 tokens: what one tool result may bring into the conversation."""

_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movement
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # OSC, DCS and the other strings: titles, links
    r"|\x1b[ -/]*[0-~]"  # two-character escapes
    r"|\x9b[0-?]*[ -/]*[@-~]",
    re.DOTALL,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_OVERSTRIKE = re.compile(r"[^\n\x08]\x08")


def plain(output: bytes | str) -> str:
    """Output as text without terminal control: colours gone, progress bars reduced to their last state.

    Undecodable bytes become U+FFFD.
    """
    text = output if isinstance(output, str) else output.decode("utf-8", "replace")
    text = _ESCAPE.sub("", text).replace("\r\n", "\n")
    if "\r" in text:
        text = "\n".join(_last_overwrite(line) for line in text.split("\n"))
    if "\x08" in text:
        text = _OVERSTRIKE.sub("", text)
    return _CONTROL.sub("", text)


def _last_overwrite(line: str) -> str:
    return next((part for part in reversed(line.split("\r")) if part), "")


def raw_of(output: bytes) -> dict[str, str]:
    """`raw`, for the facts of a tool result: what a terminal would have got, where `plain` shows something else."""
    shown, raw = plain(output), output.decode("utf-8", "backslashreplace")
    return {"raw": raw} if shown != raw else {}


def clip(text: str, limit_chars: int = LIMIT_CHARS, *, whole_in: str = "") -> str:
    """Cut the middle out of a text longer than `limit_chars`, at line ends where they are near, with a notice.

    The parts that are kept have `limit_chars` characters together at most; the notice comes on top. `whole_in` names
    the place of the whole text.
    """
    if len(text) <= limit_chars:
        return text
    half = limit_chars // 2
    head, tail = text[:half], text[len(text) - half :]
    if (end := head.rfind("\n")) > half * 3 // 4:
        head = head[: end + 1]
    if 0 <= (start := tail.find("\n")) < half // 4:
        tail = tail[start + 1 :]
    cut = len(text) - len(head) - len(tail)
    where = f"; the output is kept in {whole_in}" if whole_in else ""
    joint = "" if head.endswith("\n") else "\n"
    return f"{head}{joint}[... {cut:,} characters cut here{where} ...]\n{tail}"


async def presentable(
    environment: Environment,
    output: bytes | str,
    *,
    spilled: tuple[str, ...] = (),
    limit_chars: int = LIMIT_CHARS,
) -> str:
    """Output as a model should see it; what does not fit is kept whole in a file in the environment.

    `spilled` are files which hold the whole already, because the environment had to cut the output itself. The name
    of a new file comes from its content, so that the same output reads the same when it is replayed.
    """
    text = plain(output).rstrip("\n")
    if len(text) <= limit_chars and not spilled:
        return text
    if spilled:
        return clip(text, limit_chars, whole_in=" and ".join(spilled))
    return clip(text, limit_chars, whole_in=await _keep(environment, text.encode("utf-8", "replace")))


async def temporary_folder(environment: Environment) -> str:
    """The world's folder for temporary files."""
    folder = await environment.exec('printf %s "${TMPDIR:-/tmp}"', timeout_s=60)
    return folder.stdout.decode("utf-8", "surrogateescape")


async def _keep(environment: Environment, data: bytes) -> str:
    """Write a file into the world's folder for temporary files, which is no part of anybody's work."""
    path = f"{await temporary_folder(environment)}/output-{hashlib.sha256(data).hexdigest()[:12]}.txt"
    try:
        await environment.write_file(path, data)
    except OSError:  # a world without room for it: what is shown is still true
        return ""
    return path
