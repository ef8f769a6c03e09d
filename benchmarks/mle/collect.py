"""Taking the submission file out of an agent's world: a regular file of a sane size, and nothing else."""

from __future__ import annotations

from trellis.environments.environment import Environment
from trellis.scaffolds.task import Submission

CHECK = """
folder=${1%/*}
if [ -L "$folder" ] || [ -L "$1" ]; then echo symlink
elif [ -f "$1" ]; then stat -c %s -- "$1"
elif [ -e "$1" ]; then echo irregular
else echo missing
fi
"""
TIMEOUT_S = 30.0


async def collect(environment: Environment, path: str, answer: str, cap_bytes: int) -> Submission:
    """The file at `path` as "submission.csv"; where it may not be read, "refused.txt" says why ("flag: reason").

    Raises:
        EnvironmentFault: the world broke.
    """
    result = await environment.exec(["bash", "-c", CHECK, "check", path], timeout_s=TIMEOUT_S)
    verdict = result.stdout.decode("utf-8", "replace").strip()
    refused = ""
    if verdict == "symlink":
        refused = f"symlink: {path} is a symbolic link; it must be a regular file"
    elif verdict == "irregular":
        refused = f"irregular: {path} is not a regular file"
    elif verdict.isdecimal() and int(verdict) > cap_bytes:
        refused = f"oversized: {path} has {verdict} bytes; at most {cap_bytes} are read"
    if refused:
        return Submission(answer, {"refused.txt": refused.encode()})
    if not verdict.isdecimal():
        return Submission(answer)
    try:
        content = await environment.read_file(path)
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        return Submission(answer)
    return Submission(answer, {"submission.csv": content})
