"""What is lost on the way out: the words for it, which several formats share, and how it is counted."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from trellis.models.messages import Media, Message, Reasoning, ToolCall
from trellis.models.model import Usage
from trellis.trajectories.converters.converter import Losses
from trellis.trajectories.converters.telling import Told, Turn, notes_in, opening, patch_of, signed_block
from trellis.trajectories.recorded import GRADER
from trellis.trajectories.trajectory import Act, Branch, Note

PAYLOADS = "parts in a provider's own form, signatures included"
UNSIGNED = "parts in a provider's own form, but for signed reasoning of Anthropic"
MEDIA = "sounds, films and documents"
JUDGED = "calls of a judge"
NOTES = "events of the scaffold and of the world besides steps"
BRANCHES = "steps on other branches than the one that is told"
USES = "tool calls of the scaffold's own"
REPEATED = "shortenings of the conversation (what was sent again is not repeated)"
COPIED = "replies that another branch gave (they look like steps of this one)"
ORDER = "replies that go back and forth between reasoning, words and calls (these are told apart)"
CALLS = "settings and circumstances of calls (temperature, tools on offer, retries, when they began)"
CLASSES = "token counts of sounds, images and long-lived caches (added to their kin)"
CUT = "calls of a model that came to no end"
CUT_ACTS = "tool calls that were cut off (they look like failed ones)"
STATE = "errors, images and facts of results (exit codes are told)"
CONTENTS = "contents of files that calls changed (their hashes are told)"
HANDED_IN = "what was handed in besides (earlier, other files than a patch, an answer beside one)"
OUTCOME = "what was handed in"
LARGE = "large files that were handed in (their hashes are told)"
UNPRICED = "costs that are unknown (counted as 0)"
HEADER = "facts of what the episode was made with (versions, settings, budget, world)"
SIDE = "branches that went on side by side (each is told by itself)"
TIMES = "times (no run says when the episode began)"
ONE_CONVERSATION = (BRANCHES, UNSIGNED, MEDIA, JUDGED, NOTES, USES, REPEATED, COPIED, ORDER, CALLS, CLASSES, CUT,
                    CUT_ACTS, STATE, HANDED_IN, UNPRICED)  # fmt: skip
"""What is lost where a format has one conversation; `count_turn`, `count_aside` and `submission` count it."""
_LARGE_BYTES = 1024 * 1024


def regrouped(message: Message) -> bool:
    """Is it other than reasoning, words and calls, in this order? Then its parts are told in another."""
    ranks = [0 if isinstance(part, Reasoning) else 2 if isinstance(part, ToolCall) else 1 for part in message.parts]
    return ranks != sorted(ranks)


def facts_of(header: Mapping[str, Any]) -> int:
    """How many members it has besides those that say which episode it is."""
    return len(header.keys() - {"seq", "at", "branch", "kind", "chain", "schema", "episode"})


def payloads(message: Message, *, signed: bool = False) -> int:
    """How many parts keep a provider's own item, signatures and all; `signed`: but for those that `thinking` tells."""
    return sum(
        getattr(part, "raw", None) is not None and not (signed and isinstance(part, Reasoning) and signed_block(part))
        for part in message.parts
    )


def note_data(told: Told, note: Note, losses: Losses) -> dict[str, Any]:
    """What a note says. Of what was handed in, with what the files hold."""
    data = dict(note.data)
    if note.kind != "submit" or data.get("answer") is None:
        return data
    load, files = told.trajectory.blobs.load, {}
    for name, blob in data["answer"]["files"].items():
        files[name] = file_as_json(content) if len(content := load(blob)) <= _LARGE_BYTES else {"sha256": blob}
        losses.add(LARGE, int("sha256" in files[name]))
    return {**data, "answer": {**data["answer"], "files": files}}


def file_as_json(content: bytes) -> dict[str, str]:
    try:
        return {"text": content.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}


def changes(act: Act, losses: Losses) -> dict[str, Any]:
    """The files that a call changed, where that was recorded."""
    if not act.followed:
        return {}
    losses.add(CONTENTS, sum(bool(change.get("text")) for change in act.changes))
    return {"changes": list(act.changes), "more_changes": act.more_changes or None}


def submission(told: Told, losses: Losses) -> str:
    """What a format tells that has one text for what was handed in: the patch, or the answer where there is none."""
    handed_in = told.submission()
    if handed_in is None:
        return ""
    answer, files = handed_in
    patch = patch_of(files)
    earlier = sum(1 for _ in told.trajectory.notes("submit")) - 1
    losses.add(HANDED_IN, earlier + len(files) - (patch is not None) + bool(patch and answer))
    return answer if patch is None else patch


def count_turn(turn: Turn, losses: Losses) -> None:
    """Count what a format of one conversation does not tell of a step."""
    reply = turn.step.reply
    losses.add(REPEATED, int(turn.shortened))
    losses.add(USES, len(turn.alone))
    losses.add(COPIED, sum(message.role == "assistant" for message in turn.fresh))
    losses.add(UNSIGNED, sum(payloads(message, signed=True) for message in turn.fresh))
    losses.add(CALLS)
    losses.add(CUT_ACTS, sum(act.result is None for act, _ in turn.results))
    losses.add(STATE, sum(has_facts(act) for act, _ in turn.results))
    if reply is None:
        losses.add(CUT)
        return
    losses.add(UNPRICED, int(reply.cost_usd is None))
    losses.add(UNSIGNED, payloads(reply.message, signed=True))
    losses.add(ORDER, int(regrouped(reply.message)))
    losses.add(CLASSES, int(has_rare_classes(reply.usage)))


def has_facts(act: Act) -> bool:
    """Does a result say more than a text and an exit code?"""
    result = act.result
    if result is None:
        return False
    facts = result.is_error or result.data.keys() - {"exit_code"}
    return bool(facts or act.followed or act.handed_in or any(isinstance(part, Media) for part in result.parts))


def has_rare_classes(usage: Usage) -> bool:
    return any((usage.audio_input, usage.audio_output, usage.image_input, usage.cache_write_1h))


def count_aside(told: Told, branch: Branch, losses: Losses) -> None:
    """Count what a format of one conversation does not tell besides its steps."""
    trajectory = told.trajectory
    others = (each for each in trajectory.branches.values() if each.name not in (branch.name, GRADER))
    losses.add(BRANCHES, sum(len(each.steps) or bool(each.acts) for each in others))
    losses.add(USES, sum(1 for _ in opening(trajectory, branch)))
    losses.add(JUDGED, trajectory.judged)
    losses.add(NOTES, notes_in(trajectory))
