"""One world with one browser for all tests of a module: starting Chromium takes longer than most of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from trellis.environments.environment import Environment, EnvironmentSpec, EnvironmentUnavailable, Files, Kind
from trellis.tools.browser.session import SERVER
from trellis.tools.browser.tool import make
from trellis.tools.tool import FunctionTool, Output

HERE = Path(__file__).parent
SPEC_FILES = (Files(str(HERE / "serve.py"), "serve.py"),)
SITE = "http://127.0.0.1:8077"


@dataclass
class Browsing:
    """A browser in a world, and what it said last."""

    world: Environment
    tool: FunctionTool
    last: Output = Output()  # noqa: RUF009 - it is frozen

    async def __call__(self, action: str, **arguments: Any) -> str:
        """Do something that must succeed; what came back."""
        self.last = await self.tool(self.world, action=action, **arguments)
        assert not self.last.is_error, self.last.text
        return self.last.text

    async def fail(self, action: str, **arguments: Any) -> str:
        """Do something that must be refused."""
        self.last = await self.tool(self.world, action=action, **arguments)
        assert self.last.is_error, self.last.text
        return self.last.text

    async def show(self, body: str, name: str = "page") -> str:
        """Make a page of this HTML and go there in a tab of its own; what is on it."""
        await self.world.write_file(f"pages/{name}.html", f'<!doctype html><meta charset="utf-8">{body}'.encode())
        return await self("navigate", url=f"{SITE}/{name}")

    async def ref(self, words: str) -> str:
        """The reference in the line with these words, on a fresh snapshot."""
        return ref(await self("snapshot"), words)


def ref(shown: str, words: str) -> str:
    line = next((line for line in shown.splitlines() if words in line and not line.startswith("- ")), None)
    assert line is not None, f"no {words} in\n{shown}"
    found = re.search(r"\[(e\d+)\]", line.partition(words)[2])
    assert found, line
    return found[1]


def need_chromium() -> None:
    found = any(Path(path).exists() for path in ("/usr/lib/chromium/chromium", "/usr/bin/google-chrome"))
    if not found and shutil.which("chromium") is None:
        pytest.skip("no Chromium here: install the package chromium")


async def started(kind: Kind) -> Environment:
    need_chromium()
    spec = EnvironmentSpec(kind=kind, files=SPEC_FILES, env={SERVER: "python3 serve.py"})
    try:
        return await spec.start(label="test/browser")
    except EnvironmentUnavailable as reason:
        pytest.skip(f"no {kind}: {reason}")


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["sandbox", pytest.param("docker", marks=pytest.mark.docker)]
)
async def browse(request: pytest.FixtureRequest) -> AsyncIterator[Browsing]:
    world = await started(request.param)
    try:
        yield Browsing(world, make())
    finally:
        await world.close()
