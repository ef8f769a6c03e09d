"""How hard a model is asked to reason, where it does not know the effort that is wished for."""

from __future__ import annotations

from collections.abc import Collection
from typing import get_args

from trellis.models.model import Effort

EFFORTS: tuple[Effort, ...] = get_args(Effort)


def nearest(wish: Effort, known: Collection[str]) -> Effort | None:
    """Of the efforts that a model knows, the nearest to the wish, the higher of two; None where it knows none."""
    at = EFFORTS.index(wish)
    return min(
        (each for each in EFFORTS if each in known),
        key=lambda each: (abs(EFFORTS.index(each) - at), -EFFORTS.index(each)),
        default=None,
    )
