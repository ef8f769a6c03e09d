"""The questions of Humanity's Last Exam, in the official format: one JSON object a line."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from trellis.models.messages import Image

SAMPLE = Path(__file__).parent / "sample" / "questions.jsonl"

_DATA_URI = re.compile(r"data:(?P<media_type>image/[a-z0-9.+-]+);base64,(?P<data>[A-Za-z0-9+/=\s]+)")


class Question(BaseModel):
    """One question; the fields are those of the official data set, whose later ones may be added to."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    question: str
    """Text; the options of a multiple-choice question stand in it."""
    answer: str
    answer_type: Literal["exactMatch", "multipleChoice"]
    image: str = ""
    """A data URI, "" for a question without an image."""
    image_preview: object = None
    author_name: str = ""
    rationale: str = ""
    rationale_image: object = None
    raw_subject: str = ""
    category: str = ""
    canary: str = ""

    def picture(self) -> Image | None:
        """Raises ValueError if `image` is not a base64 data URI of an image."""
        if not self.image:
            return None
        uri = _DATA_URI.fullmatch(self.image)
        if uri is None:
            raise ValueError(f"question {self.id}: image is not a data URI of the form data:image/...;base64,...")
        try:
            return Image(base64.b64decode(uri["data"], validate=False), uri["media_type"])
        except binascii.Error as error:
            raise ValueError(f"question {self.id}: image is not base64: {error}") from None


def load(path: Path) -> list[Question]:
    """The questions of a JSONL file.

    Raises:
        ValueError: the file cannot be read or holds something else; the line says where.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            questions = list(_parse(path, lines))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file: export the data set as JSONL, one question a line") from None
    if not questions:
        raise ValueError(f"{path} holds no questions")
    return questions


def _parse(path: Path, lines: Iterable[str]) -> Iterator[Question]:
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            question = Question.model_validate_json(line)
            question.picture()
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "question"
            raise ValueError(f"{path}, line {number}: {where}: {first['msg']}") from None
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        if question.id in seen:
            raise ValueError(f"{path}, line {number}: the id {question.id!r} occurs twice")
        seen.add(question.id)
        yield question
