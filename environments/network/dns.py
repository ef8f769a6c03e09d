"""The little of the DNS that a world with an allow-list needs: one question in, one answer out."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

_HEADER = struct.Struct(">HHHHHH")
_RESPONSE, _OPCODE, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x7800, 0x0100, 0x0080
_FORMAT_ERROR, _NO_SUCH_NAME, _NOT_IMPLEMENTED = 1, 3, 4
_TYPE_A, _TYPE_ANY, _CLASS_IN = 1, 255, 1
_TTL_S = 60
_POINTER_TO_QUESTION = b"\xc0\x0c"


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send back, and the name that does not exist, if that is what was asked for."""

    message: bytes
    unknown: str | None = None


def answer(query: bytes, addresses: Mapping[str, IPv4Address]) -> Answer | None:
    """Answer from `addresses` (lower case names) alone; None for what is not even a query."""
    if len(query) < _HEADER.size:
        return None
    number, flags, questions, *_ = _HEADER.unpack_from(query)
    if flags & _RESPONSE:
        return None
    if flags & _OPCODE:
        return Answer(_reply(number, flags, _NOT_IMPLEMENTED))
    question = _read_question(query) if questions == 1 else None
    if question is None:
        return Answer(_reply(number, flags, _FORMAT_ERROR))
    name, kind, name_class, raw = question
    address = addresses.get(name.lower())
    if address is None:
        return Answer(_reply(number, flags, _NO_SUCH_NAME, raw), unknown=name)
    wanted = kind in (_TYPE_A, _TYPE_ANY) and name_class == _CLASS_IN
    return Answer(_reply(number, flags, 0, raw, [address] if wanted else []))


def _read_question(query: bytes) -> tuple[str, int, int, bytes] | None:
    labels, at = [], _HEADER.size
    while at < len(query) and (size := query[at]):
        if size > 63:
            return None  # compression, which a question has nothing to point to for
        labels.append(query[at + 1 : at + 1 + size])
        at += 1 + size
    end = at + 5
    if end > len(query) or at - _HEADER.size > 254:
        return None
    kind, name_class = struct.unpack_from(">HH", query, at + 1)
    name = b".".join(labels).decode("ascii", "backslashreplace")
    return name, kind, name_class, query[_HEADER.size : end]


def _reply(
    number: int, flags: int, code: int, question: bytes = b"", addresses: list[IPv4Address] | None = None
) -> bytes:
    flags = _RESPONSE | flags & (_OPCODE | _RECURSION_DESIRED) | _RECURSION_AVAILABLE | code
    records = b"".join(
        _POINTER_TO_QUESTION + struct.pack(">HHIH", _TYPE_A, _CLASS_IN, _TTL_S, 4) + address.packed
        for address in addresses or ()
    )
    return _HEADER.pack(number, flags, int(bool(question)), len(addresses or ()), 0, 0) + question + records
