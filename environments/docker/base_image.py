"""The base image of `docker` worlds: its name, which follows from its recipe, and how it is built.

    python -m trellis.environments.docker.base_image [auto|dockerfile|debootstrap]

`dockerfile` needs a registry; `debootstrap` makes the same from Debian packages, needs root and a Debian mirror.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from trellis.environments.environment import EnvironmentUnavailable

RECIPE = Path(__file__).with_name("recipe")
REPOSITORY = "trellis-base"
BUILD_TIMEOUT_S = 3600
CHANGES = ("USER agent", "WORKDIR /work", "ENV HOME=/home/agent", 'CMD ["bash"]', "LABEL trellis.base=1")


@functools.cache
def base_image_name() -> str:
    """`trellis-base:<hash of the recipe>`: another recipe is another image."""
    digest = hashlib.sha256()
    for file in sorted(RECIPE.iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return f"{REPOSITORY}:{digest.hexdigest()[:12]}"


def build(method: str = "auto") -> str:
    """Build the base image unless it is there; its name. Progress goes to standard error.

    Raises:
        EnvironmentUnavailable: it cannot be built here.
    """
    name = base_image_name()
    if _docker("image", "inspect", name, quiet=True):
        return name
    if method == "auto":
        method = "debootstrap" if os.geteuid() == 0 and shutil.which("debootstrap") else "dockerfile"
    with tempfile.TemporaryDirectory(prefix="trellis-image-", dir="/var/tmp") as scratch:
        built = (_by_debootstrap if method == "debootstrap" else _by_dockerfile)(name, Path(scratch))
    if not built:
        raise EnvironmentUnavailable(f"the base image could not be built by {method}; its output says why")
    return name


def _by_dockerfile(name: str, scratch: Path) -> bool:
    for file in RECIPE.iterdir():
        shutil.copy(file, scratch)
    return _docker("build", "--tag", name, str(scratch))


def _by_debootstrap(name: str, scratch: Path) -> bool:
    root = scratch / "root"
    changes = [part for change in CHANGES for part in ("--change", change)]
    try:
        subprocess.run(
            ["sh", RECIPE / "debootstrap.sh", root, sys.executable],
            check=True,
            timeout=BUILD_TIMEOUT_S,
            stdout=sys.stderr,
        )
        with subprocess.Popen(["tar", "-C", root, "--one-file-system", "-c", "."], stdout=subprocess.PIPE) as tar:
            done = _docker("import", *changes, "-", name, stdin=tar.stdout)
        return done and tar.returncode == 0
    except (subprocess.CalledProcessError, OSError) as error:
        print(error, file=sys.stderr)
        return False


def _docker(*arguments: str, quiet: bool = False, stdin: IO[bytes] | int | None = subprocess.DEVNULL) -> bool:
    output = subprocess.DEVNULL if quiet else sys.stderr
    try:
        done = subprocess.run(
            ["docker", *arguments], stdin=stdin, stdout=output, stderr=output, timeout=BUILD_TIMEOUT_S, check=False
        )
        return done.returncode == 0
    except FileNotFoundError:
        raise EnvironmentUnavailable("the command `docker` is not here: install Docker's command line") from None


if __name__ == "__main__":
    choice = argparse.ArgumentParser(
        prog="python -m trellis.environments.docker.base_image", description="Build the base image."
    )
    choice.add_argument("method", nargs="?", default="auto", choices=("auto", "dockerfile", "debootstrap"))
    try:
        print(build(choice.parse_args().method))
    except EnvironmentUnavailable as reason:
        sys.exit(str(reason))
