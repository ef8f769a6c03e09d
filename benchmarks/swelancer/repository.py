"""The sample split: Tally, a small expense tracker of our own, with bugs put back in, as sealed repositories."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from trellis.benchmarks.swelancer.dataset import Issue, IssueFolder, read_tasks
from trellis.benchmarks.swelancer.trees import File, Tree, apply_patch, diff, digest, read_tree, write_tree
from trellis.environments.environment import EnvironmentSpec, Files

SAMPLE = Path(__file__).parent / "sample"
TEST_COMMAND = "python3 -m pytest -q tests"

SERVE = "python3 -m tally --host 127.0.0.1 --port {port} --db {folder}/tally.db"
"""How the application is started: it must answer on loopback. `{folder}` is a new, empty one."""

VARIABLES = {
    # A source that is changed twice within a second keeps its time stamp: stale compiled files would be believed.
    "PYTHONDONTWRITEBYTECODE": "1",
    # Plugins that happen to be installed cost half a second per run and change what tests do.
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}

SEAL = """\
set -eu
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
export GIT_AUTHOR_DATE=2024-01-01T00:00:00Z GIT_COMMITTER_DATE=2024-01-01T00:00:00Z
git init --quiet --template= --initial-branch=main .
git config core.logAllRefUpdates false
git config user.name Tally
git config user.email tally@example.org
mkdir -p .git/info
printf '%s\\n' __pycache__/ .pytest_cache/ >.git/info/exclude
git add --all
git commit --quiet --message Tally
git config --remove-section user
rm -f .git/COMMIT_EDITMSG
"""
"""One commit of what is there, with a fixed date and author: no remotes, other refs, reflog or unreachable objects."""


@dataclass(frozen=True)
class Repository:
    """The application of one issue, as an agent finds it."""

    issue: Issue

    @cached_property
    def folder(self) -> IssueFolder:
        return IssueFolder(SAMPLE / "issues" / self.issue.id)

    @cached_property
    def clean(self) -> Tree:
        return read_tree(SAMPLE / "app")

    @cached_property
    def buggy(self) -> Tree:
        return read_tree(self.prepared)

    @cached_property
    def gold(self) -> bytes:
        """The patch that undoes the bug."""
        return diff(self.buggy, self.clean)

    @cached_property
    def prepared(self) -> Path:
        """The folder with the bug in it, made when it is first needed."""
        patch = self.folder.bug_patch
        target = _cache() / digest(self.clean, {"patch": File(patch)})
        if not target.is_dir():
            _make(apply_patch(self.clean, patch), target)
        return target

    @property
    def environment(self) -> EnvironmentSpec:
        """The agent's world: the repository is the workdir."""
        return EnvironmentSpec(files=(Files(str(self.prepared), "."),), setup=SEAL, env=VARIABLES)

    @property
    def bare_environment(self) -> EnvironmentSpec:
        """The same files without a repository, to be graded in."""
        return EnvironmentSpec(files=(Files(str(self.prepared), "."),), env=VARIABLES)


def sample_issues() -> list[Issue]:
    return read_tasks(SAMPLE / "swelancer_tasks.csv")


def _cache() -> Path:
    named = os.environ.get("TRELLIS_CACHE")
    return (Path(named) if named else Path.home() / ".cache" / "trellis") / "swelancer"


def _make(tree: Tree, target: Path) -> None:
    """All at once or not at all: another process may be making the same."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    except OSError as error:
        raise ValueError(f"cannot write to {target.parent} ({error.strerror}); set TRELLIS_CACHE to a folder") from None
    try:
        write_tree(tree, made)
        made.chmod(0o755)
        if not target.is_dir():
            made.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
