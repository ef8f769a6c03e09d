"""What earlier versions wrote, read as what the present one writes: one function for each step of the schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

FAMILY = "trellis-trajectory/"
UNCHAINED = f"{FAMILY}1"
"""The one schema whose events are not chained."""
SCHEMAS = (UNCHAINED, f"{FAMILY}2")
"""In the order in which they came; the last is the present one."""

Event = dict[str, Any]


def migrate(event: Event, schema: str) -> Event:
    """An event of `schema` as the present schema has it. Raises KeyError or TypeError where it is none."""
    for before in SCHEMAS[SCHEMAS.index(schema) : -1]:
        event = _STEPS[before](event)
    return event


def _from_1(event: Event) -> Event:
    """Until then a branch's event said whether the branch began in the world of the branch whose name it goes on from
    (else: in one that is not told)."""
    if event["kind"] == "header":
        return {**event, "schema": SCHEMAS[1], "migrated_from": event["schema"]}
    if event["kind"] == "branch":
        parent = event["branch"].rpartition("/")[0]
        return {**event, "origin": parent if event["origin"] else None}
    return event


_STEPS: Mapping[str, Callable[[Event], Event]] = {SCHEMAS[0]: _from_1}
"""By the schema that is read, to the next one."""
