"""A provider's key: read from the environment, and kept out of every text."""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode, urlsafe_b64encode
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote

from trellis.models.model import ModelRequestError

_LINE_LENGTH = 300
_MARK = "[key]"

KEY_VARIABLES: set[str] = set()
"""The environment variables that keys of this process were read from: what they hold is kept out of logs too, whatever
the variables are called. The environment is the process's, and so is this."""


@cache
def forms(secret: str) -> tuple[str, ...]:
    """A secret as it is, and as it looks inside JSON, a URL or base64; longer ones first. None of an empty one."""
    if not secret:
        return ()
    found = {secret, json.dumps(secret)[1:-1], quote(secret, safe="")}
    data = secret.encode()
    for encode in (b64encode, urlsafe_b64encode):
        for before in range(3):  # what stands before it decides how its bytes fall into groups of three
            text = encode(bytes(before) + data).decode()
            first = -(-before * 8 // 6)  # characters that other bytes have a part in are left out
            found.add(text[first : (before + len(data)) * 8 // 6])
    return tuple(sorted(found, key=len, reverse=True))


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
            KEY_VARIABLES.add(env)
            return cls(env, value)
        raise ModelRequestError(
            f"{name}: no key; set the environment variable {env}, or name another: -M api_key_env=..."
        )

    def redact(self, text: str) -> str:
        """`text` without this key and without anything that looks like one (providers quote keys half masked)."""
        for form in forms(self.value):
            text = text.replace(form, _MARK)
        return re.sub(r"\b(sk|pk)-[\w*.-]{4,}", _MARK, text)

    def cut_from(self, value: Any) -> Any:
        """A JSON value without this key in its texts; the same object where there is none in it, which is always but
        with a server that quotes keys."""
        match value:
            case str():
                for form in forms(self.value):
                    value = value.replace(form, _MARK) if form in value else value
                return value
            case list():
                items = [self.cut_from(item) for item in value]
                return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
            case dict():
                pairs = {self.cut_from(name): self.cut_from(item) for name, item in value.items()}
                same = all(a is b for a, b in zip(pairs.values(), value.values(), strict=True))
                return value if same and pairs.keys() == value.keys() else pairs
        return value

    def one_line(self, text: object) -> str:
        """Text of a provider in one line, without control characters, keys or excess."""
        clean = re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]+|\s+", " ", self.redact(str(text))).strip()
        return clean if len(clean) <= _LINE_LENGTH else f"{clean[:_LINE_LENGTH]}..."
