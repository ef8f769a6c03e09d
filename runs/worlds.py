"""The kind of world a run gets: settled, and tried once, before anything is written."""

from __future__ import annotations

from dataclasses import replace

from trellis.environments.environment import EnvironmentFault, EnvironmentSpec, Kind
from trellis.runs.errors import UsageError
from trellis.runs.experiment import Experiment
from trellis.runs.plan import Plan

EMBEDDED: tuple[Kind, ...] = ("sandbox", "docker", "local")
"""Where the demo looks for a world, in this order. Its code is that of our own policies, so it may do without isolation
where there is none to be had; nothing else may."""


async def settle(experiment: Experiment, plan: Plan, *, embedded: bool = False) -> tuple[Experiment, str]:
    """The experiment with `auto` replaced by the kind of world this machine has, so that a run never mixes kinds, and a
    notice for the user ("" if there is none). `embedded` looks through `EMBEDDED` for it.

    Raises:
        UsageError: there is no such world here.
    """
    kinds, notice = set(), ""
    for spec in _distinct(plan):
        if embedded and spec.kind == "auto":
            kind, notice = await _embedded(spec)
            kinds.add(kind)
            continue
        try:
            kinds.add(await _try(spec))
        except EnvironmentFault as fault:
            raise UsageError(f"--env {spec.kind}: {fault}") from None
    if experiment.environment.kind != "auto" or len(kinds) != 1:
        return experiment, notice
    environment = experiment.environment.model_copy(update={"kind": kinds.pop()})
    return experiment.model_copy(update={"environment": environment}), notice


async def _embedded(spec: EnvironmentSpec) -> tuple[str, str]:
    """The first of `EMBEDDED` that works, and a notice if it isolates nothing."""
    reasons = []
    for kind in EMBEDDED[:-1]:
        try:
            return await _try(replace(spec, kind=kind)), ""
        except EnvironmentFault as fault:
            reasons.append(f"{kind}: {fault}")
    return EMBEDDED[-1], (
        f"notice: no isolation on this machine, so commands run as you, in folders of their own ({'; '.join(reasons)})"
    )


async def _try(spec: EnvironmentSpec) -> str:
    """Start an empty world of the kind, image and runtime, and close it. A Compose file is read; what is built is built
    when it is first needed. Raises EnvironmentFault."""
    from trellis.environments.kinds import resolve_kind

    kind = await resolve_kind(spec)
    if kind == "docker":
        from trellis.environments.docker.world import project_of

        await project_of(spec)
    if kind != "local" and not (spec.dockerfile or spec.compose):
        world = await EnvironmentSpec(kind=kind, image=spec.image, runtime=spec.runtime).start(label="probe")
        await world.close()
    return kind


def _distinct(plan: Plan) -> list[EnvironmentSpec]:
    specs = {
        (spec.kind, spec.image, spec.runtime, spec.dockerfile, spec.compose): spec
        for cell in plan.cells
        if (spec := cell.environment) is not None
    }
    return list(specs.values())
