"""Where an episode was won or lost: the chance of success from each of its steps, estimated by going on from there
several times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from trellis.runs.conduct import Ended
from trellis.runs.folder import RunFolder
from trellis.runs.results import Result
from trellis.runs.stats import Interval, rate_interval
from trellis.runs.text import line, rate
from trellis.trajectories.trajectory import Trajectory

_BAR = 30
"""Characters of a full bar."""
_DID = 60
"""Characters that say what a step did."""
_WIDTH, _HEIGHT, _LEFT = 900, 300, 48
"""Of the chart, in its own units."""
_LABELS = 25
"""Steps that are named below the chart, at most."""


@dataclass(frozen=True)
class Chance:
    """Of the episodes that kept the steps up to `step`."""

    step: int
    did: str
    """What that step did, in a few words."""
    episodes: int
    """Those that were scored."""
    success: Interval | None
    """Share of successes, with Wilson's interval; None: no episode was scored."""
    score: float | None
    """Mean."""


def along(trajectory: Trajectory, results: Iterable[Result]) -> list[Chance]:
    """From the results of forks whose agents are named `...@STEP`."""
    by_step: defaultdict[int, list[Result]] = defaultdict(list)
    for result in results:
        by_step[int(result.key.agent.rpartition("@")[2])].append(result)
    return [_chance(step, trajectory, by_step[step]) for step in sorted(by_step)]


def turning(chances: Sequence[Chance]) -> tuple[Chance | None, Chance | None]:
    """The steps with the greatest rise and the greatest fall of the success rate; None where there is none. Whether a
    change is more than chance, the intervals say."""
    known = [chance for chance in chances if chance.success is not None]
    pairs = [(a.success, b.success, b) for a, b in pairwise(known) if a.success and b.success]
    changes = [(round(after.value - before.value, 9), chance) for before, after, chance in pairs]  # of equals the first
    rise = max(changes, key=lambda change: change[0], default=(0.0, None))
    fall = min(changes, key=lambda change: change[0], default=(0.0, None))
    return (rise[1] if rise[0] > 0 else None), (fall[1] if fall[0] < 0 else None)


def to_json(ended: Ended, chances: Sequence[Chance]) -> dict[str, Any]:
    rise, fall = turning(chances)
    return {
        "run": str(ended.folder.path),
        "each": [asdict(chance) for chance in chances],
        "won_at": rise and rise.step,
        "lost_at": fall and fall.step,
        **ended.summary.to_json(),
    }


def as_text(chances: Sequence[Chance]) -> str:
    rise, fall = turning(chances)
    lines = ["chance of success after each step (95 % interval)"]
    for chance in chances:
        bar = "█" * round(_BAR * (chance.success.value if chance.success else 0.0))
        mark = "▲" if chance is rise else "▼" if chance is fall else " "
        lines.append(f"{chance.step:>5} {mark} {bar:<{_BAR}} {rate(chance.success):<18} {chance.did}")
    if rise:
        lines.append(f"won most at step {rise.step} (▲)")
    if fall:
        lines.append(f"lost most at step {fall.step} (▼)")
    return "\n".join(lines)


def write(folder: RunFolder, trajectory: Trajectory, chances: Sequence[Chance]) -> Path:
    """`chances.html` in the run's folder."""
    from trellis.runs.report import page

    path = folder.path / "chances.html"
    rise, fall = turning(chances)
    known = [chance for chance in chances if chance.success is not None]
    wide = (_WIDTH - _LEFT - 30) / max(1, len(known) - 1)
    places = {chance.step: round(_LEFT + 15 + wide * index, 1) for index, chance in enumerate(known)}
    html = page(
        "chances.html.j2",
        episode=trajectory.header["episode"],
        chances=chances,
        known=known,
        rise=rise,
        fall=fall,
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        every=-(-len(known) // _LABELS) or 1,
        x=lambda chance: places[chance.step],
        y=lambda share: round(12 + (1 - share) * (_HEIGHT - 62), 1),
    )
    path.write_text(html, "utf-8")
    return path


def _chance(number: int, trajectory: Trajectory, results: Sequence[Result]) -> Chance:
    scores = [result.score for result in results if result.score is not None]
    # Given the steps that are kept, the episodes are independent: each counts for itself.
    share = rate_interval({str(i): [float(score.success)] for i, score in enumerate(scores)}) if scores else None
    mean = sum(score.value for score in scores) / len(scores) if scores else None
    return Chance(number, _did(number, trajectory), len(scores), share, mean)


def _did(number: int, trajectory: Trajectory) -> str:
    if not number:
        return "(the beginning)"
    step = trajectory.step(number)
    calls = [act.call for act in step.acts] or (step.reply.tool_calls if step.reply else ())
    if calls:
        return line(f"{calls[0].name} {' '.join(str(value) for value in calls[0].arguments.values())}", _DID)
    return line(step.reply.text, _DID) if step.reply else "(cut off)"
