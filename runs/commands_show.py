"""`trellis show`: an episode, or one step of it, as text."""

from __future__ import annotations

import heapq
import json
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from trellis.models.messages import message_to_json, part_to_json
from trellis.runs import table, text
from trellis.runs.errors import UsageError
from trellis.runs.finding import find_step, open_trajectory
from trellis.runs.flags import as_json, runs_dir
from trellis.runs.overview import overview
from trellis.runs.step_text import Look, happenings, head, lines_of, say
from trellis.trajectories.files import Files
from trellis.trajectories.log import LogError
from trellis.trajectories.trajectory import Act, Branch, Note, Step, Trajectory


@click.command()
@click.argument("trajectory")
@click.argument("step", required=False, metavar="[STEP]")
@click.option("--conversation", is_flag=True, help="Also what was sent to the model; of one STEP, all of it.")
@click.option("--full", is_flag=True, help="Long texts whole, and the differences of changed files.")
@runs_dir
@as_json
def show(trajectory: str, step: str | None, conversation: bool, full: bool, runs_dir: Path, as_json: bool) -> None:
    """Show what happened in an episode: its steps with replies, tool calls, results, changed files and costs.

    TRAJECTORY is a log, an episode's folder, or RUN/TASK/AGENT/EPOCH; STEP (3, or main:3) is shown with everything.
    """
    with open_trajectory(trajectory, runs_dir) as opened:
        try:
            if as_json:
                _print_json(opened, step, conversation=conversation)
            else:
                _print(opened, step, conversation=conversation, full=full)
        except LogError as error:
            raise UsageError(str(error)) from None


def _print(trajectory: Trajectory, step: str | None, *, conversation: bool, full: bool) -> None:
    columns = table.console(sys.stdout).width
    files = Files(trajectory)
    if step is not None:
        found = find_step(trajectory, step)
        sent = trajectory.conversation(found) if conversation else None
        say(lines_of(found, Look(columns, whole=True, files=files), sent))
        return
    about = overview(trajectory)
    say(head(about))
    look = Look(columns, whole=full, files=files if full else None, given=conversation)
    for each in in_order(trajectory):
        say([""])
        if isinstance(each, Step):
            say(lines_of(each, look))
        else:
            when = "before its first step" if each.steps else "without a step"
            say([click.style(f"{text.line(each.name)}, {when}", bold=True)])
            say(happenings(*opening(trajectory, each), look))


def in_order(trajectory: Trajectory) -> Iterator[Step | Branch]:
    """Steps, and before them the branches on which something happened before their first step."""
    opened = sorted((b for b in trajectory.branches.values() if b.opening), key=lambda b: b.opening[0])
    branches: Iterator[Step | Branch] = iter(opened)
    steps: Iterator[Step | Branch] = trajectory.steps()
    return heapq.merge(branches, steps, key=lambda each: each.seq if isinstance(each, Step) else each.opening[0])


def opening(trajectory: Trajectory, branch: Branch) -> tuple[list[Act], list[Note]]:
    """What happened on a branch before its first step."""
    performed = set(branch.acts)
    acts = [trajectory.act(seq) for seq in branch.opening if seq in performed]
    return acts, [trajectory.note(seq) for seq in branch.opening if seq not in performed]


def _print_json(trajectory: Trajectory, step: str | None, *, conversation: bool) -> None:
    """One document, of which no more than one step is held at a time."""
    files = Files(trajectory)
    if step is not None:
        found = find_step(trajectory, step)
        document = step_to_json(found, files)
        if conversation:
            document["conversation"] = [message_to_json(each, _name) for each in trajectory.conversation(found)]
        click.echo(json.dumps(document, indent=2))
        return
    head = json.dumps({**overview(trajectory).to_json(), "header": trajectory.header})
    click.echo(f'{head[:-1]}, "events": [', nl=False)
    for number, each in enumerate(in_order(trajectory)):
        if isinstance(each, Step):
            shown = step_to_json(each, files)
        else:
            acts, notes = opening(trajectory, each)
            shown = {"opening_of": each.name, **_happenings_to_json(acts, notes, files)}
        click.echo(("," if number else "") + "\n" + json.dumps(shown), nl=False)
    click.echo("]}")


def step_to_json(step: Step, files: Files) -> dict[str, Any]:
    """`reply` is a message as `trellis fork --edit` takes it. Media elsewhere are named by their blobs."""
    reply = step.reply
    return {
        "step": step.number,
        "branch": step.branch,
        "turn": step.turn,
        "kind": step.kind,
        "role": step.role,
        "model": step.model,
        "config": dict(step.config),
        "begun_at": step.begun_at,
        "ended_at": step.ended_at,
        "given": [message_to_json(message, _name) for message in step.given],
        "reply": reply and message_to_json(reply.message),
        "overflow": step.overflow,
        "stop_reason": reply and reply.stop_reason,
        "usage": reply and reply.usage.to_json(),
        "cost_usd": reply and reply.cost_usd,
        "latency_s": reply and reply.latency_s,
        "waited_s": reply and reply.waited_s,
        **_happenings_to_json(step.acts, step.notes, files),
    }


def _happenings_to_json(
    acts: tuple[Act, ...] | list[Act], notes: tuple[Note, ...] | list[Note], files: Files
) -> dict[str, Any]:
    return {
        "acts": [
            {
                "call": part_to_json(act.call),
                "result": act.result and part_to_json(act.result, _name),
                "begun_at": act.begun_at,
                "ended_at": act.ended_at,
                "handed_in": act.handed_in,
                "changes": [
                    {**change, "diff": file.diff, "said": file.said}
                    for change, file in zip(act.changes, files.of(act), strict=True)
                ],
                "more_changes": act.more_changes,
            }
            for act in acts
        ],
        "notes": [{"kind": note.kind, "at": note.at, "data": dict(note.data)} for note in notes],
    }


def _name(data: bytes) -> str:
    """Under which a blob lies beside the log."""
    return sha256(data).hexdigest()
