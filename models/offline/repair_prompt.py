"""What `offline/repair` understands of a prompt: what is asked, how the tests are run, what the proposals are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from trellis.models.messages import Message

_TEST_COMMAND = re.compile(r"((?:python3?(?:\.\d+)?\s+-m\s+)?\b(?:pytest|unittest)\b[^\n`\"'|;&]*)")
_DECISION_FILE = re.compile(r"`?([\w./-]+\.json)`?")
_DECISION_KEY = re.compile(r"[\"'`]?(selected_proposal_id|[a-z_]*proposal_id)[\"'`]?")
_PROPOSAL = re.compile(r"^[#*\s]*(?:proposal)\b[^\n]*?(\d+)[^\n]*$", re.IGNORECASE | re.MULTILINE)
_DIFF_LINE = re.compile(r"^([+-])(?![+-]{2})(.*\S.*)$", re.MULTILINE)
_FRUITLESS = re.compile(r"\bchanged nothing\b")
_RULES = re.compile(r"#+ (?:the )?(?:rules|instructions|tools|your (?:task|decision|work))\b", re.IGNORECASE)
_DIFFERENT = re.compile(r"\bsomething different\b|\bdifferent(?:ly)? (?:fix|place|approach)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Request:
    """A bug to be fixed in the repository that the tools see."""

    report: str
    test_command: str
    tried: tuple[frozenset[str], ...] = ()
    """Lines added by each earlier attempt that the prompt shows as a diff."""
    different: bool = False
    """The prompt asks for something else than what was tried."""
    fruitless: int = 0
    """Earlier attempts that are said to have changed nothing: what they looked at is not looked at again."""

    @property
    def continues(self) -> bool:
        """Is an earlier attempt to be carried on?"""
        return bool(self.tried) and not self.different


@dataclass(frozen=True, slots=True)
class Choice:
    """Proposals of which one is to be chosen."""

    issue: str
    proposals: dict[int, str] = field(default_factory=dict)
    file: str = "manager_decisions.json"
    key: str = "selected_proposal_id"


def understand(messages: Sequence[Message]) -> Request | Choice | None:
    """What a conversation's opening asks for; None where it is nothing that this policy can do."""
    opening = []
    for message in messages:
        if message.role == "assistant":
            break
        if message.role == "user":
            opening.append(message.text)
    text = "\n\n".join(opening)
    if choice := _choice(text):
        return choice
    command = _TEST_COMMAND.search(text)
    if command is None:
        return None
    history = "\n\n".join(opening[1:])
    return Request(
        report=_without_rules(opening[0].replace(command[1], " ")),
        test_command=command[1].strip(" .,:"),
        tried=_tried(history),
        different=bool(_DIFFERENT.search(history)),
        fruitless=len(_FRUITLESS.findall(history)),
    )


def _without_rules(text: str) -> str:
    """The text without the sections that speak of the work rather than of the bug."""
    sections = re.split(r"(?m)^(?=#+ )", text)
    return "".join(section for section in sections if not _RULES.match(section))


def _choice(text: str) -> Choice | None:
    heads = list(_PROPOSAL.finditer(text))
    ids = [int(head[1]) for head in heads]
    if len(ids) < 2 or len(set(ids)) != len(ids):
        return None
    ends = [head.start() for head in heads[1:]] + [len(text)]
    bodies = [text[head.end() : end] for head, end in zip(heads, ends, strict=True)]
    bodies[-1], _, asked = bodies[-1].partition("\n# ")
    asked = asked or text
    file, key = _DECISION_FILE.search(asked), _DECISION_KEY.search(asked)
    return Choice(
        issue=text[: heads[0].start()],
        proposals=dict(zip(ids, bodies, strict=True)),
        **({"file": file[1]} if file else {}),
        **({"key": key[1]} if key else {}),
    )


def _tried(history: str) -> tuple[frozenset[str], ...]:
    blocks = re.findall(r"```diff\n(.*?)```", history, re.DOTALL)
    found = (frozenset(line.strip() for sign, line in _DIFF_LINE.findall(block) if sign == "+") for block in blocks)
    return tuple(lines for lines in found if lines)
