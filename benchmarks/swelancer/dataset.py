"""SWE-Lancer's files: the task list as CSV and a folder per issue (Miserendino et al. 2025, arXiv:2502.12115).

Two generations of the CSV are in use. The current one has columns for title, description and proposals, as escaped
text; the older one has the whole prompt as a Python list of messages. Both are read into the same `Issue`.
"""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

Variant: TypeAlias = Literal["ic_swe", "swe_manager"]

CURRENT = ("question_id", "variant", "set", "title", "description", "price", "proposals", "acceptable_folders",
           "manager_data", "manager_commit", "cwd")  # fmt: skip
OLDER = ("question_id", "variant", "price", "price_limit", "prompt", "manager_data", "manager_commit",
         "acceptable_folders", "cwd")  # fmt: skip
_NEEDED = ("question_id", "variant", "price", "acceptable_folders", "manager_data")
_LONGEST_FIELD = 1 << 30


@dataclass(frozen=True, slots=True)
class Issue:
    """One row of the task list."""

    id: str
    variant: Variant
    price_usd: float
    title: str = ""
    description: str = ""
    proposals: str = ""
    prompt: Sequence[Mapping[str, str]] = ()
    """The older generation's messages; empty in the current one."""
    folders: tuple[str, ...] = ()
    """Names of the issue's test folders ("acceptable folders")."""
    split: str = ""
    """The column `set`."""
    cwd: str = ""
    commit: str = ""
    manager: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """`manager_data`: what was proposed and chosen. Secret."""

    @property
    def right_proposal(self) -> int:
        """Raises KeyError for an IC task."""
        return int(self.manager["game"]["correct_proposal"]["id"])


def read_tasks(path: Path) -> list[Issue]:
    """The tasks of a CSV of either generation, in its order.

    Raises:
        ValueError: it is no such file; says which row and why.
    """
    with path.open(newline="", encoding="utf-8") as file, _fields_of_any_length():
        reader = csv.DictReader(file)
        missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: not a SWE-Lancer task list: no column {', '.join(missing)}")
        issues = []
        for number, row in enumerate(reader, start=2):
            try:
                issues.append(_issue(row))
            except (ValueError, SyntaxError, TypeError, KeyError) as error:
                raise ValueError(f"{path}: row {number} ({row.get('question_id')}): {error}") from None
    return issues


def _issue(row: Mapping[str, str]) -> Issue:
    manager = _literal(row["manager_data"], {})
    variant = _variant(row["variant"])
    if variant == "swe_manager":
        int(manager["game"]["correct_proposal"]["id"])
    return Issue(
        id=row["question_id"],
        variant=variant,
        price_usd=float(row["price"]),
        title=unescape(row.get("title") or str(manager.get("title", ""))),
        description=unescape(row.get("description") or ""),
        proposals=unescape(row.get("proposals") or ""),
        prompt=_literal(row.get("prompt") or "", ()),
        folders=tuple(_literal(row["acceptable_folders"], ())),
        split=row.get("set") or "",
        cwd=row.get("cwd") or "",
        commit=row.get("manager_commit") or "",
        manager=manager,
    )


def _variant(text: str) -> Variant:
    for variant in get_args(Variant):
        if text == variant:
            return variant  # type: ignore[no-any-return]
    raise ValueError(f"variant must be one of {', '.join(get_args(Variant))}, not {text!r}")


def _literal(text: str, default: Any) -> Any:
    return ast.literal_eval(text) if text.strip() else default


def unescape(text: str) -> str:
    """Undo the `unicode_escape` of the columns title, description and proposals; text beyond Latin-1 stays as it is."""
    try:
        return text.encode("latin-1", "backslashreplace").decode("unicode_escape")
    except UnicodeDecodeError:  # a backslash that never was an escape
        return text


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


@dataclass(frozen=True, slots=True)
class IssueFolder:
    """`issues/<id>/`: the patch that brings the bug back, what was reported, and the hidden tests. Secret."""

    path: Path

    @property
    def bug_patch(self) -> bytes:
        return (self.path / "bug_reintroduce.patch").read_bytes()

    @property
    def commit_id(self) -> str:
        return (self.path / "commit_id.txt").read_text(encoding="ascii").strip()

    @property
    def data(self) -> Mapping[str, Any]:
        """`title`, `price`, `issue_repo_steps`, `html_description`."""
        loaded: Mapping[str, Any] = json.loads((self.path / "issue_data.json").read_text(encoding="utf-8"))
        return loaded

    @property
    def tests(self) -> Path:
        return self.path / "test.py"
