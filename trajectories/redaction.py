"""Secrets stay out of logs: the values of key-like environment variables and authorization headers are replaced."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from trellis.models.keys import KEY_VARIABLES, forms

_KEY_LIKE = re.compile(r"(?i)(api_?key|access_?key|token|secret|password|passwd|credential|private_?key|_key$)")
_HEADER = re.compile(r"(?i)((?:authorization|x-api-key)[\"']?\s*[:=]\s*[\"']?(?:bearer\s+|basic\s+)?)([^\s\"',\\]{8,})")
_MARK = "[redacted]"


class Redaction:
    """Replaces what it knows to be secret, also written in base64, in a URL or in JSON. Applying it twice changes
    nothing more."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        named = {v.strip() for k, v in environ.items() if _KEY_LIKE.search(k) or k in KEY_VARIABLES}
        secrets = {v for v in named if len(v) >= 8 and not v.startswith("/")}
        self._secrets = sorted({form for secret in secrets for form in forms(secret)}, key=len, reverse=True)
        self._encoded = [secret.encode("utf-8", "surrogateescape") for secret in self._secrets]

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, _MARK)
        # The regular expression is dear; the two words it starts from are cheap to look for.
        if "uthorization" in text or "AUTHORIZATION" in text or "-key" in text.lower():
            text = _HEADER.sub(rf"\1{_MARK}", text)
        return text

    def data(self, data: bytes) -> bytes:
        """The same for bytes that may be a text; headers are left in them."""
        for secret in self._encoded:
            if secret in data:
                data = data.replace(secret, _MARK.encode())
        return data
