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

import click

from trellis.runs import table, text
from trellis.runs.errors import UsageError
from trellis.runs.flags import as_json

EXTRAS = {"mle": ("pandas", "sklearn", "yaml"), "swelancer": ("pytest",), "browser": ("playwright",), "mcp": ("mcp",)}
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
@as_json
def clean(as_json: bool) -> None:
    """Remove what processes that died have left behind: worlds with their mounts and folders, containers, snapshots.

    What belongs to a living process stays.
    """
    from trellis.environments.kinds import reap

    removed = asyncio.run(reap("", dead_only=True))
    click.echo(json.dumps({"removed": removed}) if as_json else f"{text.plural(removed, 'leftover')} removed")


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
        missing = [module for module in modules if find_spec(module) is None]
        hint = f"missing: {', '.join(missing)}; pip install 'trellis-agents[{extra}]'"
        found[f"extra {extra}"] = (not missing, hint if missing else ", ".join(modules))
    git = shutil.which("git")
    found["git"] = (git is not None, git or "not found; swelancer needs it")
    for facts in await kinds():
        found[f"world {facts.kind}"] = (facts.available, facts.reason or "ready")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    found["chromium"] = (chromium is not None, chromium or "not found; tests in a browser are skipped without it")
    for key in KEYS:
        found[key] = (True, "set") if os.environ.get(key) else (None, "not set; only its provider's models need it")
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    found["disk"] = (free_gb >= LOW_DISK_GB, f"{free_gb:.0f} GB free here")
    found["processors"] = (True, str(os.cpu_count()))
    return found
