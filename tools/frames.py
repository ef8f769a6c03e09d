"""The frames that the host and its programs in worlds exchange: two lengths, a JSON header, a raw payload.

Runs inside worlds too (see kernel_broker.py and browser/driver/): Python 3.8, standard library only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

LARGEST_BYTES = 64 << 20
"""What one frame may have at most."""

_SIZES = struct.Struct(">II")


def pack(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    encoded = json.dumps(header).encode()
    return _SIZES.pack(len(encoded), len(payload)) + encoded + payload


class Frames:
    """Takes a stream apart."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
        """The frames that are complete with this piece.

        Raises:
            ValueError: it is no such stream, or a frame is too long.
        """
        self._buffer += data
        while len(self._buffer) >= _SIZES.size:
            header_size, payload_size = _SIZES.unpack_from(self._buffer)
            if header_size + payload_size > LARGEST_BYTES:
                raise ValueError("a frame is too long")
            start = _SIZES.size + header_size
            end = start + payload_size
            if len(self._buffer) < end:
                return
            try:
                header = json.loads(self._buffer[_SIZES.size : start])
            except RecursionError:
                header = None
            if not isinstance(header, dict):
                raise ValueError("a header is no object")
            payload = bytes(self._buffer[start:end])
            del self._buffer[:end]
            yield header, payload
