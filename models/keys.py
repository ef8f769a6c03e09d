"""A provider's key: read from the environment, and kept out of every text."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from trellis.models.model import ModelRequestError

_LINE_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Key:
    """A secret that comes from the environment and does not appear in any text."""

    env: str
    value: str

    def __repr__(self) -> str:
        return f"Key({self.env})"

    @classmethod
    def read(cls, name: str, env: str) -> Key:
        """The key in environment variable `env`, for the model `name`.

        Raises:
            ModelRequestError: the variable is not set.
        """
        if value := os.environ.get(env, "").strip():
            return cls(env, value)
        raise ModelRequestError(
            f"{name}: no key; set the environment variable {env}, or name another: -M api_key_env=..."
        )

    def redact(self, text: str) -> str:
        """`text` without this key and without anything that looks like one (providers quote keys half masked)."""
        text = text.replace(self.value, "[key]") if self.value else text
        return re.sub(r"\b(sk|pk)-[\w*.-]{4,}", "[key]", text)

    def one_line(self, text: object) -> str:
        """Text of a provider in one line, without control characters, keys or excess."""
        clean = re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]+|\s+", " ", self.redact(str(text))).strip()
        return clean if len(clean) <= _LINE_LENGTH else f"{clean[:_LINE_LENGTH]}..."
