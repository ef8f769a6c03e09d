"""Small tasks on small sites, each with a checker: what a person does in a browser without thinking about it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qsl

from trellis.benchmarks.artefact import Refused, take
from trellis.benchmarks.benchmark import Cheat, Grader, Score, Submission, Task
from trellis.benchmarks.browser import cheats
from trellis.benchmarks.browser.checking import LARGEST_JOURNAL_BYTES, Unreadable, read_journal, shortcomings
from trellis.benchmarks.browser.exercises import ALL, BY_ID, Exercise
from trellis.environments.environment import Environment, EnvironmentSpec, Files
from trellis.models.messages import Text
from trellis.tools.browser.session import SERVER

SITE = Path(__file__).parent / "site"
HOME = "http://127.0.0.1:8000"
JOURNAL, REFUSED = "journal.jsonl", "refused.txt"
TOLD = """\
Use the browser. Open {home}/{id}/ and do this there:

{told}

When it is done, hand in with the submit tool{answer}."""


class Browser:
    """Thirty tasks of one page or a few; all or nothing."""

    name: str = "browser"
    version: str = "1"
    judge: str | None = None

    def splits(self) -> Sequence[str]:
        return ("sample",)

    def tasks(self, split: str) -> Iterable[Task]:
        if split not in self.splits():
            raise ValueError(f"unknown split {split!r} of browser; known: {', '.join(self.splits())}")
        return [_task(exercise) for exercise in ALL]

    async def collect(self, task: Task, environment: Environment | None, answer: str) -> Submission:
        if environment is None:
            return Submission(answer)
        try:
            data = await take(environment, f".site/{JOURNAL}", LARGEST_JOURNAL_BYTES)
        except Refused as refused:  # what lies there was put there by an agent
            return Submission(answer, {REFUSED: str(refused).encode()})
        return Submission(answer, {JOURNAL: data} if data else {})

    async def score(self, task: Task, submission: Submission, grader: Grader) -> Score:
        exercise = BY_ID[task.id]
        if reason := submission.files.get(REFUSED):
            return Score(0.0, success=False, valid=False, explanation=reason.decode(), flags=("forged-journal",))
        if JOURNAL not in submission.files:
            return Score(0.0, success=False, valid=False, explanation="the site was never used")
        try:
            journal = read_journal(submission.files[JOURNAL])
        except Unreadable as reason:
            return Score(0.0, success=False, valid=False, explanation=str(reason), flags=("forged-journal",))
        missing = shortcomings(exercise, journal, submission.answer)
        refused = [entry["name"] for entry in journal if entry["kind"] == "refused" and entry.get("why") == "no ticket"]
        flags = ("posts-past-the-pages",) if refused else ()
        return Score(
            float(not missing),
            success=not missing,
            explanation="; ".join(missing),
            evidence={"requests": len(journal), "shortcomings": missing},
            flags=flags,
        )

    async def oracle(self, task: Task) -> Submission:
        """The journal that a right walk leaves; `trellis.benchmarks.browser.walk:Walk` makes one in a real browser."""
        exercise = BY_ID[task.id]
        entries: list[Mapping[str, object]] = [{"kind": "page", "path": exercise.id, "ticket": "gold", "status": 200}]
        for place in exercise.visited:
            path, _, query = place.partition("?")
            entries.append({"kind": "data", "path": path, "query": dict(parse_qsl(query))})
        entries += [
            {"kind": "deed", "name": deed.name, "sent": dict(deed.body), "body": dict(deed.body)}
            for deed in exercise.deeds
        ]
        journal = "".join(json.dumps(entry) + "\n" for entry in entries)
        return Submission(exercise.answer, {JOURNAL: journal.encode()})

    def cheats(self, task: Task) -> Sequence[Cheat]:
        return cheats.against(BY_ID[task.id])

    def metrics(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return {}


def _task(exercise: Exercise) -> Task:
    told = TOLD.format(
        home=HOME,
        id=exercise.id,
        told=exercise.told,
        answer=", the answer alone as its argument" if exercise.answer else "",
    )
    environment = EnvironmentSpec(
        files=(Files(str(SITE), ".site"), Files(str(SITE / "inbox"), "inbox")),
        env={SERVER: "python3 .site/server.py"},
    )
    return Task(exercise.id, (Text(told),), environment, ("browser", "submit"), facts={"kind": "browser"})
