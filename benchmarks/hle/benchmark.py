"""Humanity's Last Exam (Phan et al. 2025, arXiv:2501.14249) as a benchmark: questions in, a judge's verdict out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from trellis.benchmarks.benchmark import Cheat, Grader, GraderFault, Score, Submission, Task
from trellis.benchmarks.hle import cheats, metrics
from trellis.benchmarks.hle.judging import CONFIG, Verdict, doubts, read_verdict, request
from trellis.benchmarks.hle.questions import SAMPLE, Question, load
from trellis.environments.environment import Environment
from trellis.models.messages import Part, Text

PromptStyle = Literal["unified", "by_type"]

INSTRUCTION = """\
Answer the question at the end. Write three parts, each on a new line that begins with its label:
Explanation: how you come to your answer
{label}: {what}
Confidence: how sure you are that the answer is right, from 0% to 100%"""

ANSWER = {"label": "Answer", "what": "the one answer you decide for"}
EXACT = {"label": "Exact Answer", "what": "the one answer you decide for, as short and exact as it can be"}
CHOICE = {"label": "Answer", "what": "the letter of the option you decide for"}


class Hle:
    """Humanity's Last Exam.

    Args:
        file: the official questions (or others in that format) as JSONL; they make the split `file`.
        prompt_style: `unified` asks every question in the same words, as published results did; `by_type` has words
            of its own for exact answers and for choices, as the official code meant to.
        text_only: leave out questions with an image.
    """

    name: str = "hle"
    judge: str | None = "offline/judge"

    def __init__(
        self, file: Path | None = None, prompt_style: PromptStyle = "unified", text_only: bool = False
    ) -> None:
        self._file = file
        self._prompt_style = prompt_style
        self._text_only = text_only
        if file is not None and not file.is_file():
            raise ValueError(f"file={file}: no such file; give the questions as JSONL, one a line")

    @cached_property
    def version(self) -> str:
        """Of the sample, and of the file where there is one: the same version, the same questions."""
        if self._file is None:
            return "1"
        return f"1+{hashlib.sha256(self._file.read_bytes()).hexdigest()[:12]}"

    def splits(self) -> Sequence[str]:
        return ("sample", "file") if self._file else ("sample",)

    def tasks(self, split: str) -> Iterable[Task]:
        if split not in self.splits():
            more = "; hle:file needs -B file=QUESTIONS.jsonl" if self._file is None else ""
            raise ValueError(f"unknown split {split!r} of hle; known: {', '.join(self.splits())}{more}")
        questions = self._sample if split == "sample" else self._own
        return [self._task(q) for q in questions if not (self._text_only and q.image)]

    async def collect(self, task: Task, environment: Environment | None, answer: str) -> Submission:
        return Submission(answer=answer)

    async def score(self, task: Task, submission: Submission, grader: Grader) -> Score:
        if not submission.answer.strip():
            return Score(0.0, success=False, valid=False, explanation="no answer")
        question = self._question(task)
        verdict = await _ask(grader, question, submission.answer)
        right = verdict.correct == "yes"
        evidence = {
            "correct_answer": question.answer,
            "extracted_answer": verdict.extracted_final_answer,
            "confidence": verdict.confidence,
            "answer_type": question.answer_type,
            "category": question.category,
        }
        return Score(
            float(right),
            success=right,
            explanation=verdict.reasoning,
            evidence=evidence,
            flags=doubts(submission.answer),
        )

    async def oracle(self, task: Task) -> Submission:
        question = self._question(task)
        label = self._form(question)["label"]
        return Submission(f"Explanation: the reference answer\n{label}: {question.answer}\nConfidence: 100%")

    def cheats(self, task: Task) -> Sequence[Cheat]:
        return cheats.against(self._question(task))

    def metrics(self, scores: Sequence[Score]) -> Mapping[str, float]:
        """`accuracy` and `accuracy_half_width` in percent of all scored questions; `calibration_error` (every bin)
        and, from 100 answers on, `calibration_error_faithful` (the published code's), both in percent of answers with
        a confidence. None of what is not defined."""
        if not scores:
            return {}
        percent = metrics.accuracy(sum(score.success for score in scores), len(scores))
        out = {"accuracy": percent, "accuracy_half_width": metrics.half_width(percent, len(scores))}
        judged = [(float(s.evidence["confidence"]), s.success) for s in scores if "confidence" in s.evidence]
        confidences, right = [c for c, _ in judged], [r for _, r in judged]
        if judged:
            out["calibration_error"] = 100 * metrics.calibration_error(confidences, right)
        if len(judged) >= metrics.BIN:
            out["calibration_error_faithful"] = 100 * metrics.calibration_error(confidences, right, mode="faithful")
        return out

    # --- questions -------------------------------------------------------------------------------------------------

    @cached_property
    def _sample(self) -> list[Question]:
        return load(SAMPLE)

    @cached_property
    def _own(self) -> list[Question]:
        return load(self._file) if self._file else []

    @cached_property
    def _by_id(self) -> Mapping[str, Question]:
        return {question.id: question for question in (*self._sample, *self._own)}

    def _question(self, task: Task) -> Question:
        return self._by_id[task.id]

    def _task(self, question: Question) -> Task:
        parts: list[Part] = [Text(f"{INSTRUCTION.format(**self._form(question))}\n\n{question.question}")]
        if picture := question.picture():
            parts.append(picture)
        facts: dict[str, Any] = {"kind": "question", "category": question.category}
        return Task(question.id, tuple(parts), environment=None, tools=(), facts=facts)

    def _form(self, question: Question) -> Mapping[str, str]:
        if self._prompt_style == "unified":
            return ANSWER
        return CHOICE if question.answer_type == "multipleChoice" else EXACT


async def _ask(grader: Grader, question: Question, response: str) -> Verdict:
    """The judge's verdict; a judge that gives none is asked once more.

    Raises:
        GraderFault: it gave none again.
    """
    messages = request(question.question, response, question.answer)
    for _ in range(2):
        reply = await grader.judge(messages, config=CONFIG)
        if verdict := read_verdict(reply):
            return verdict
    said = "refused" if reply.stop_reason == "refusal" else f"gave no verdict but {reply.text[:200]!r}"
    raise GraderFault(f"question {question.id}: the judge {said} (asked twice)")
