"""Background jobs of `shell`: started in the shell of the world, read and ended from beside it.

A job is a process group of the world. Its output and its exit code are in files there, so it can be read while the
shell is busy, and when the shell that started it is gone.
"""

from __future__ import annotations

import asyncio
import math
import shlex
from dataclasses import dataclass, field

from trellis.environments.environment import Environment, Shell
from trellis.tools.tool import ToolError

EXEC_TIMEOUT_S = 60.0
END_S = 2
"""How long a job may take to end by itself when it is told to."""

_NEW = (
    'cd "${TMPDIR:-/tmp}" || exit; n=1; while [ -e "job-$n.log" ]; do n=$((n + 1)); done; : > "job-$n.log" || exit; '
    'printf "%s %s" "$n" "$PWD"'
)
# Its own group, so that it can be ended as a whole. The status is kept whatever `set -e` says.
_LAUNCH = (
    "{{ set +m; ( eval {command} ) & wait $! && set -- 0 || set -- $?; echo $1 >|{status}; }} "
    ">|{log} 2>&1 </dev/null & echo $! >|{group}"
)
_IN_ITS_OWN_GROUP = "case $- in *m*) eval {launch};; *) set -m; eval {launch}; set +m;; esac"
_READ = """SECONDS=0; group=$(cat {group}); alive() {{ [ ! -s {status} ] && kill -0 -- -"$group" 2>/dev/null; }}
while ((SECONDS < {wait_s})) && alive; do sleep 0.1; done
state=gone; alive && state=running; [ ! -s {status} ] || state=$(cat {status})
size=$(stat -c %s {log}) && echo "$state $size" && tail -c +{next} {log} | head -c $((size - {next} + 1))"""
_END = """SECONDS=0; group=$(cat {group}); kill -TERM -- -"$group"; while ((SECONDS < {wait_s})); do
kill -0 -- -"$group" || exit 0; sleep 0.1; done; kill -KILL -- -"$group\""""


@dataclass(frozen=True, slots=True)
class News:
    """What a job has printed since the last time, and how it stands; no exit code while it runs or if it was killed."""

    output: bytes
    running: bool
    exit_code: int | None


@dataclass(slots=True)
class Job:
    number: int
    command: str
    path: str
    """Of its files, without the ending."""
    read: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def log(self) -> str:
        return f"{self.path}.log"

    def filled_in(self, script: str, **more: object) -> str:
        names = {name: shlex.quote(f"{self.path}.{name}") for name in ("log", "status", "group")}
        return script.format(**names, **more)


class Jobs:
    """The jobs of one world, by number."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}

    async def start(self, environment: Environment, shell: Shell, command: str) -> Job:
        """Raises ToolError if the world has no room for another."""
        found = await environment.exec(_NEW, timeout_s=EXEC_TIMEOUT_S)
        number, _, folder = found.stdout.decode("utf-8", "surrogateescape").partition(" ")
        if not found.ok:
            raise ToolError(f"the background job cannot be started: {found.text.strip()}")
        job = Job(int(number), command, f"{folder}/job-{number}")
        launch = shlex.quote(job.filled_in(_LAUNCH, command=shlex.quote(command)))
        result = await shell.run(job.filled_in("rm -f {status}; ") + _IN_ITS_OWN_GROUP.format(launch=launch))
        if result.exit_code != 0:
            raise ToolError(f"the background job cannot be started: {result.output.decode('utf-8', 'replace').strip()}")
        self._jobs[job.number] = job
        return job

    def __len__(self) -> int:
        return len(self._jobs)

    def find(self, number: int) -> Job:
        """Raises ToolError if there is no such job."""
        if number not in self._jobs:
            known = "; ".join(f"{job.number}: {job.command[:60]}" for job in self._jobs.values())
            raise ToolError(f"there is no job {number}; " + (f"there are {known}" if known else "none was started"))
        return self._jobs[number]

    async def read(self, environment: Environment, job: Job, wait_s: float) -> News:
        """What is new; waits up to `wait_s` for the end of the job before."""
        async with job.lock:
            script = job.filled_in(_READ, wait_s=math.ceil(wait_s), next=job.read + 1)
            result = await environment.exec(script, timeout_s=wait_s + EXEC_TIMEOUT_S)
            facts, _, output = result.stdout.partition(b"\n")
            state, _, size = facts.decode("utf-8", "replace").rpartition(" ")
            if not result.ok or not size.isdigit():
                raise ToolError(f"job {job.number} cannot be read; its files were removed: {result.text.strip()}")
            job.read = int(size)
        return News(output, state == "running", int(state) if state.isdigit() else None)

    async def end(self, environment: Environment, job: Job) -> None:
        await environment.exec(job.filled_in(_END, wait_s=END_S), timeout_s=END_S + EXEC_TIMEOUT_S)
