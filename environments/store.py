"""Where worlds lie on the host: one folder per user, with a folder for each world and each layer of files.

Every folder says whose it is (label, process), so that what a dead process left behind can be found and removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from trellis.environments.environment import EnvironmentUnavailable

OWNER = "owner.json"
USERS = "users"
"""A folder with a name for each user of a shared folder; see references.py."""
CGROUP_REMOVAL_S = 2.0


def store_folder() -> Path:
    """The folder of this user, on a disk rather than in memory; `TRELLIS_WORLDS` names another one.

    Raises:
        EnvironmentUnavailable: it cannot be had, or it is somebody else's.
    """
    default = Path("/var/tmp") if Path("/var/tmp").is_dir() else Path(tempfile.gettempdir())
    folder = Path(os.environ.get("TRELLIS_WORLDS") or default / f"trellis-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise EnvironmentUnavailable(f"no folder for worlds: {folder}: {error.strerror}; set TRELLIS_WORLDS") from None
    if owner != os.getuid():
        raise EnvironmentUnavailable(f"no folder for worlds: {folder} belongs to user {owner}; set TRELLIS_WORLDS")
    return folder.resolve()


def new_folder(label: str, *, name: str = "", cgroups: tuple[str, ...] = ()) -> Path:
    """A new, empty folder of this process; short names, because overlays name hundreds of them in one page."""
    folder = store_folder() / (name or secrets.token_hex(4))
    folder.mkdir(mode=0o700)
    facts = {"label": label, "pid": os.getpid(), "began": process_start(os.getpid()), "cgroups": cgroups}
    (folder / OWNER).write_text(json.dumps(facts))
    return folder


def relabel(folder: Path, label: str) -> None:
    """The folder is another user's from now on."""
    facts = json.loads((folder / OWNER).read_text())
    draft = folder / f".{OWNER}"
    draft.write_text(json.dumps({**facts, "label": label}))
    draft.replace(folder / OWNER)


def process_start(pid: int) -> str:
    """When a process began, to tell it from a later one of the same number; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(") ")[2].split()[19]
    except (OSError, IndexError):
        return ""


def boot() -> str:
    """Which start of the machine this is; empty where that cannot be told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def in_use(pid: int, began: str, *, dead_only: bool) -> bool:
    """Must what belongs to this process be left alone? Always while another process lives that began then under this
    number, whatever the label; with `dead_only`, while this one does, too."""
    return bool(began) and process_start(pid) == began and (dead_only or pid != os.getpid())


def labelled(label: str, *, dead_only: bool) -> Iterator[Path]:
    """The folders whose label is `label` or begins with `label/` (all for "") and whose owner is dead, or, unless
    `dead_only`, this process."""
    for folder in store_folder().iterdir():
        try:
            facts = json.loads((folder / OWNER).read_text())
        except (OSError, ValueError):
            continue  # being made, or being removed
        ours = not label or facts["label"] == label or facts["label"].startswith(f"{label}/")
        owners = [(facts["pid"], facts["began"]), *processes_that_use(folder)]
        if ours and not any(in_use(pid, began, dead_only=dead_only) for pid, began in owners):
            yield folder


def label_of(folder: Path) -> str:
    """Empty for a folder that is nobody's."""
    try:
        return str(json.loads((folder / OWNER).read_text())["label"])
    except (OSError, ValueError):
        return ""


def processes_that_use(folder: Path) -> Iterator[tuple[int, str]]:
    """Pid and beginning of each process that has said so (see references.py), also of those that ended meanwhile."""
    with contextlib.suppress(OSError):
        for user in (folder / USERS).iterdir():
            pid, _, began = user.name.partition(".")
            if pid.isdigit():
                yield int(pid), began


def remove(folder: Path) -> None:
    """Remove a folder and its control groups, whatever modes the files in it have.

    What cannot be removed now keeps the name of its owner, for the next `reap`.
    """
    with contextlib.suppress(OSError, ValueError):
        for group in json.loads((folder / OWNER).read_text())["cgroups"]:
            _remove_cgroup(Path(group))
    with contextlib.suppress(OSError):
        if (folder / USERS).is_dir():  # first, so that half a snapshot never looks like a whole one
            remove_tree(folder / USERS)
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                remove_tree(entry)
            elif entry.name != OWNER:
                entry.unlink()
        (folder / OWNER).unlink(missing_ok=True)
        folder.rmdir()


def remove_tree(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        # An owner may have taken away their own rights, or have nested folders deeper than a path can name. These two
        # programs go down step by step, and follow no links.
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf", "--one-file-system"]):
            subprocess.run([*command, "--", folder], stderr=subprocess.DEVNULL, check=False)
        if folder.exists():
            raise


def _remove_cgroup(group: Path) -> None:
    """Kill what is still in it; the last process leaves a little after it has ended."""
    deadline = time.monotonic() + CGROUP_REMOVAL_S
    while group.exists() and time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            for pid in (group / "cgroup.procs").read_text().split():
                if int(pid) > 0:  # 0 is somebody in another process namespace, and would mean all of ours
                    os.kill(int(pid), signal.SIGKILL)
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.005)
