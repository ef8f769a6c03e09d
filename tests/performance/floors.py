"""What the machine itself takes for what environments do: the yardsticks of environments.py."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

FILES, FILE_BYTES = 5000, 40_000
"""The workspace of DESIGN's target: 200 MB in 5,000 files."""


async def median_ms(action: Callable[[], Awaitable[object]], times: int) -> float:
    measured = []
    for _ in range(times):
        began = time.perf_counter()
        await action()
        measured.append((time.perf_counter() - began) * 1000)
    return median(measured)


async def beside_ms(
    action: Callable[[], Awaitable[object]], floor: Callable[[], object], times: int
) -> tuple[float, float]:
    """The medians of both, measured in turns: what the machine does meanwhile happens to both."""
    ours, theirs = [], []
    for _ in range(times):
        theirs.append(plain_ms(floor, 1))
        ours.append(await median_ms(action, 1))
    return median(ours), median(theirs)


def plain_ms(action: Callable[[], object], times: int) -> float:
    measured = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        measured.append((time.perf_counter() - began) * 1000)
    return median(measured)


class LiveBash:
    """A bash fed over a pipe: write a line, read until the sentinel."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(command or ("bash",), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, command: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho done\n".encode())
        self._process.stdin.flush()
        while self._process.stdout.readline() != b"done\n":
            pass

    def close(self) -> None:
        self._process.communicate()


def make_workspace(folder: Path) -> None:
    for number in range(FILES):
        place = folder / f"d{number % 50}"
        place.mkdir(exist_ok=True)
        (place / f"{number}.bin").write_bytes(os.urandom(FILE_BYTES))


def overlay_mount_ms(workspace: Path, times: int) -> float | None:
    """A plain overlay over the workspace, mounted by the system's own program; None where this user may not."""
    if os.geteuid() != 0:
        return None
    with tempfile.TemporaryDirectory(prefix="overlay-", dir="/var/tmp") as scratch:
        upper, work, target = (Path(scratch, name) for name in ("upper", "work", "merged"))
        for folder in (upper, work, target):
            folder.mkdir()
        options = f"lowerdir={workspace},upperdir={upper},workdir={work}"

        def mount() -> None:
            subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, target], check=True)

        def measured() -> float:
            took = plain_ms(mount, 1)
            subprocess.run(["umount", target], check=True)
            return took

        return median(measured() for _ in range(times))


class Engine:
    """The engine's own command line, with a container of an image in which nothing happens."""

    def __init__(self, image: str) -> None:
        self._containers: list[str] = []
        self._images: list[str] = []
        self._idle = self._start(image)

    def exec(self, *command: str) -> None:
        self._docker("exec", self._idle, *command)

    def commit_and_start(self, container: str) -> None:
        """A fork by the engine's own means."""
        image = self._docker("commit", container)
        self._images.append(image)
        self._start(image)

    def close(self) -> None:
        self._docker("rm", "-f", *self._containers)
        for image in self._images:
            self._docker("rmi", "-f", image)

    def _start(self, image: str) -> str:
        container = self._docker("run", "-d", "--rm", "--network", "none", "--entrypoint", "sleep", image, "3600")
        self._containers.append(container)
        return container

    def _docker(self, *arguments: str) -> str:
        done = subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()


@contextmanager
def engine(image: str) -> Iterator[Engine]:
    made = Engine(image)
    try:
        yield made
    finally:
        made.close()
