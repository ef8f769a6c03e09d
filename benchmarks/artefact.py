"""Taking a file out of an agent's world: a regular file of a sane size, and nothing else."""

from __future__ import annotations

from trellis.environments.environment import Environment

CHECK = """
folder=${1%/*}
if [ -L "$folder" ] || [ -L "$1" ]; then echo symlink
elif [ -f "$1" ]; then stat -c %s -- "$1"
elif [ -e "$1" ]; then echo irregular
else echo missing
fi
"""
TIMEOUT_S = 30.0


class Refused(Exception):
    """The file may not be read; the text is "flag: reason"."""


async def take(environment: Environment, path: str, cap_bytes: int) -> bytes | None:
    """The content of the file at `path`; None where there is none that can be read.

    Raises:
        Refused: it is a link, not a regular file, or larger than `cap_bytes`.
        EnvironmentFault: the world broke.
    """
    result = await environment.exec(["bash", "-c", CHECK, "check", path], timeout_s=TIMEOUT_S)
    verdict = result.stdout.decode("utf-8", "replace").strip()
    if verdict == "symlink":
        raise Refused(f"symlink: {path} is a symbolic link; it must be a regular file")
    if verdict == "irregular":
        raise Refused(f"irregular: {path} is not a regular file")
    if not verdict.isdecimal():
        return None
    if int(verdict) > cap_bytes:
        raise Refused(f"oversized: {path} has {verdict} bytes; at most {cap_bytes} are read")
    try:
        return await environment.read_file(path)
    except OSError:
        return None
