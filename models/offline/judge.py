"""`offline/judge`: a deterministic judge of short answers. Rules instead of a language model.

It reads a judge's request in which the fields `question`, `response` and `correct_answer` stand between tags that
carry a mark, `<response-MARK> ... </response-MARK>`, and the first message names the mark: tags inside a response,
which cannot know it, are text like any other. It finds the response's one final answer, compares it with the correct
one (`equivalence.same`; option letters for a question with options) and answers with the verdict as JSON:
`extracted_final_answer`, `reasoning`, `correct` ("yes" or "no") and `confidence`.

Nothing in a response can talk to it: a response is searched for labelled lines and compared, and that is all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from trellis.models.messages import Message, assistant
from trellis.models.model import GenerateConfig, ModelRequestError, Reply, ToolSpec
from trellis.models.offline.equivalence import normalise, same
from trellis.models.tokens import estimate_usage

FIELDS = ("question", "response", "correct_answer")

_MARK = re.compile(r"\bmark ([0-9a-f]{16,64})\b")
_LABEL = re.compile(
    r"^[ \t>#*_-]*(?:(?P<answer>(?:the +)?(?:final +|exact +)?answer)|explanation|reasoning|confidence)[*_]*[ \t]*[:=]",
    re.IGNORECASE | re.MULTILINE,
)
_CONFIDENCE = re.compile(
    r"^[ \t>#*_-]*confidence[*_]*[ \t]*[:=][ \t*_]*(\d{1,3}(?:\.\d+)?)", re.IGNORECASE | re.MULTILINE
)
_OPTION = re.compile(r"^\s*[(\[]?([A-Z])[)\].:]\s+(\S.*?)\s*$", re.MULTILINE)
_CHOICE = re.compile(
    r"(?:(?:option|choice)\s+)?[(\[]?([A-Z])[)\]]?(?:\s*[.):,-]?\s+(.+)|[.):])?", re.IGNORECASE | re.DOTALL
)

_LONGEST_BARE_ANSWER = 200
"""Characters of a response without labels that is taken as the answer itself."""


@dataclass(frozen=True, slots=True)
class Verdict:
    extracted_final_answer: str
    reasoning: str
    correct: str
    confidence: int


class Judge:
    name = "offline/judge"

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        fields = read_request(messages)
        message = assistant(json.dumps(asdict(judge(**fields)), ensure_ascii=False))
        return Reply(message, usage=estimate_usage(messages, message, tools), cost_usd=0.0)


def read_request(messages: Sequence[Message]) -> Mapping[str, str]:
    """The fields of a judge's request.

    Raises:
        ModelRequestError: not a request in the form that this judge reads.
    """
    mark = _MARK.search(messages[0].text) if messages else None
    if mark is None:
        raise ModelRequestError(
            "offline/judge: the first message must say which mark the fields carry: mark <16 hex digits>"
        )
    text = "\n".join(message.text for message in messages)
    fields = {}
    for name in FIELDS:
        tag = f"{name}-{mark[1]}"
        found = re.findall(rf"^<{tag}>\n(.*?)\n?^</{tag}>$", text, re.DOTALL | re.MULTILINE)
        if len(found) != 1:
            raise ModelRequestError(
                f"offline/judge: the request must have the field <{tag}> once; it has it {len(found)} times"
            )
        fields[name] = found[0]
    return fields


def judge(question: str, response: str, correct_answer: str) -> Verdict:
    """Is the response's one final answer the correct one? The confidence is what the response states, else 100."""
    confidence = stated_confidence(response)
    answers = final_answers(response)
    options = dict(_OPTION.findall(question))
    letter = correct_answer.strip().strip("().").upper()
    by_letter = len(options) > 1 and letter in options

    def right(answer: str) -> bool:
        return chosen(answer, options) == letter if by_letter else same(answer, correct_answer)

    def meaning(answer: str) -> str:
        return (by_letter and chosen(answer, options)) or normalise(answer)

    if not answers:
        return Verdict("None", "The response states no final answer.", "no", confidence)
    if len({meaning(versions[0]) for versions in answers}) > 1:
        return Verdict("None", f"The response states {len(answers)} different final answers.", "no", confidence)
    versions = answers[-1]
    if any(map(right, versions)):
        return Verdict(versions[0], "The final answer is the correct answer.", "yes", confidence)
    return Verdict(versions[0], "The final answer differs from the correct answer.", "no", confidence)


def final_answers(response: str) -> list[tuple[str, ...]]:
    """The answers that a response labels as such, each as its first line and, where it has more, up to the next label.

    A short response without any label is the answer itself.
    """
    labels = list(_LABEL.finditer(response))
    if not labels:
        bare = response.strip()
        return [(bare,)] if bare and "\n" not in bare and len(bare) <= _LONGEST_BARE_ANSWER else []
    ends = [label.start() for label in labels[1:]] + [len(response)]
    found = []
    for label, end in zip(labels, ends, strict=True):
        block = response[label.end() : end].strip()
        if label["answer"] and block.strip("*_ "):
            whole = block.lstrip("*_ \n")
            found.append(tuple(dict.fromkeys((whole.partition("\n")[0].strip(), whole))))
    return found


def stated_confidence(response: str) -> int:
    """The last stated confidence in percent; 100 if there is none."""
    stated = _CONFIDENCE.findall(response)
    return round(min(float(stated[-1]), 100)) if stated else 100


def chosen(answer: str, options: Mapping[str, str]) -> str | None:
    """The one option that an answer names, by its letter, its text or both; None if it names none or several."""
    answer = answer.strip().strip("*_`$ ")
    by_text = [letter for letter, text in options.items() if same(answer, text)]
    if len(by_text) == 1:
        return by_text[0]
    found = _CHOICE.fullmatch(re.sub(r"\\(?:text|boxed|mathrm|textbf)\{([^{}]*)\}", r"\1", answer))
    if found is None:
        return None
    letter, rest = found[1].upper(), found[2]
    return letter if letter in options and (rest is None or same(rest, options[letter])) else None
