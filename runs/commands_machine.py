"""`trellis doctor` and `trellis clean`: what this machine has, and what dead runs left on it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from trellis.runs import table, text
from trellis.runs.errors import UsageError
from trellis.runs.flags import as_json

EXTRAS = {
    "mle": ("matplotlib", "pandas", "sklearn", "yaml"), "swelancer": ("pytest",), "browser": ("playwright",),
    "mcp": ("mcp",), "images": ("PIL",), "compose": ("yaml",), "bedrock": ("boto3",), "vertex": ("google.auth",),
    "otel": ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"),
}  # fmt: skip
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")
LOW_DISK_GB = 5.0


@click.command()
@click.option("--build-image", is_flag=True, help="First build the base image of docker worlds, if it is not there.")
@as_json
def doctor(build_image: bool, as_json: bool) -> None:
    """Say what this machine has, and what is missing for what."""
    if build_image:
        _build_image()
    examined = asyncio.run(_examine())
    if as_json:
        rows = [{"what": what, "ok": ok, "found": found} for what, (ok, found) in examined.items()]
        click.echo(json.dumps(rows, indent=2))
        return
    marks = {True: "yes", False: "no", None: "-"}
    cells = ((what, marks[ok], found) for what, (ok, found) in examined.items())
    table.console(sys.stdout).print(table.simple({"what": "left", "there": "left", "found": "left"}, cells))


@click.command()
@click.option("--built", is_flag=True, help="Also remove images and layers that were built for later starts.")
@click.option(
    "--max-gb",
    type=click.FloatRange(0),
    metavar="GB",
    help="Remove of those what was used least recently, until each kind takes at most so much. [TRELLIS_BUILT_GB]",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@as_json
def clean(built: bool, max_gb: float | None, dry_run: bool, as_json: bool) -> None:
    """Remove what processes that died have left behind: worlds with their mounts and folders, containers, networks,
    snapshots, parts of builds.

    What belongs to a living process stays. Images and layers that were built are kept for later starts, within their
    budget.
    """  # fmt: skip
    from trellis.environments.environment import EnvironmentFault

    if built and max_gb is not None:
        raise UsageError("--built removes all; leave out --max-gb")
    try:
        items = asyncio.run(_clean(0 if built else max_gb, dry_run))
    except EnvironmentFault as fault:
        raise UsageError(f"not everything could be removed: {fault}") from None
    kept = _kept_replies()
    if as_json:
        document = {"removed": len(items), "dry_run": dry_run, "items": items, "replies": kept}
        click.echo(json.dumps(document, indent=2))
        return
    for item in items:
        click.echo(f"{item['what']} {item['id']}" + (f" ({item['label']})" if item["label"] else ""))
    click.echo(f"{text.plural(len(items), 'leftover')} {'would be removed' if dry_run else 'removed'}")
    if kept["count"]:
        size = f"{kept['bytes'] / 1e6:.1f} MB"
        click.echo(f"replies kept by run --cache: {kept['count']} ({size}); to ask anew, remove {kept['folder']}")


def _kept_replies() -> dict[str, Any]:
    """What `run --cache` keeps in the user's own folder."""
    from trellis.models import cache

    folder = cache.default_folder()
    found = cache.contents(folder)
    return {"folder": str(folder), "count": found.replies, "bytes": found.bytes}


async def _clean(max_gb: float | None, dry_run: bool) -> list[dict[str, str]]:
    """What was, or would be, removed."""
    from trellis.environments import built, kinds, leftovers

    budget = built.budget_bytes() if max_gb is None else int(max_gb * 1e9)
    found = await leftovers.find("", dead_only=True)
    if not dry_run:
        await leftovers.remove(found)
    items = [{"what": left.what, "id": left.id, "label": left.label} for left in found]
    for cache in await kinds.caches():
        gone = await built.evict(cache, budget, dry_run=dry_run)
        items += [{"what": cache.what, "id": thing.name, "label": ""} for thing in gone]
    unowned = await leftovers.find_unowned()
    if not dry_run:
        await leftovers.remove(unowned)
    return items + [{"what": left.what, "id": left.id, "label": left.label} for left in unowned]


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False


def _build_image() -> None:
    from trellis.environments.docker.base_image import build
    from trellis.environments.environment import EnvironmentUnavailable

    try:
        click.echo(f"base image: {build()}", err=True)
    except EnvironmentUnavailable as error:
        raise UsageError(str(error)) from None


async def _examine() -> Mapping[str, tuple[bool | None, str]]:
    """What was looked for -> is it there (None: it does not matter), and what was found."""
    from trellis.environments.kinds import doctor as kinds

    found: dict[str, tuple[bool | None, str]] = {"python": (True, f"{sys.version.split()[0]} at {sys.executable}")}
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if not _is_installed(module)]
        hint = f"missing: {', '.join(missing)}; pip install 'trellis-agents[{extra}]'"
        found[f"extra {extra}"] = (not missing, hint if missing else ", ".join(modules))
    git = shutil.which("git")
    found["git"] = (git is not None, git or "not found; swelancer needs it")
    for facts in await kinds():
        found[f"world {facts.kind}"] = (facts.available, facts.reason or "ready")
    found.update(await _worlds())
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    found["chromium"] = (chromium is not None, chromium or "not found; tests in a browser are skipped without it")
    for key in KEYS:
        found[key] = (True, "set") if os.environ.get(key) else (None, "not set; only its provider's models need it")
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    found["disk"] = (free_gb >= LOW_DISK_GB, f"{free_gb:.0f} GB free here")
    found["processors"] = (True, str(os.cpu_count()))
    return found


async def _worlds() -> Mapping[str, tuple[bool | None, str]]:
    """The engine, and what is kept for later starts."""
    from trellis.environments import built, kinds
    from trellis.environments.environment import EnvironmentFault

    found: dict[str, tuple[bool | None, str]] = {}
    if engine := await kinds.engine_facts():
        filtered = engine.pop("seccomp")
        found["docker engine"] = (True, ", ".join(f"{what} {value}" for what, value in engine.items()))
        found["docker seccomp"] = (
            bool(filtered),
            filtered or "system calls are not filtered: the engine lacks seccomp",
        )
    try:
        budget_gb = built.budget_bytes() / 1e9
        for cache in await kinds.caches():
            things = await cache.find()
            used_gb = sum(thing.bytes for thing in things) / 1e9
            size = f"{text.plural(len(things), cache.what)}, {used_gb:.1f} of {budget_gb:g} GB"
            found[f"{cache.what}s"] = (used_gb <= budget_gb or None, size)
    except EnvironmentFault as fault:
        found["built"] = (False, str(fault))
    return found
