"""The hidden tests of one issue, run from one world over the application in another."""

from __future__ import annotations

import ast
import asyncio
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from trellis.benchmarks.benchmark import GraderFault
from trellis.benchmarks.swelancer.bridge import Bridge
from trellis.benchmarks.swelancer.official import Runs
from trellis.benchmarks.swelancer.repository import SERVE
from trellis.environments.environment import Environment, EnvironmentFault

ALL_TESTS_S = 300.0
START_S = 10.0

_START = """\
folder=$(mktemp -d)
{serve} >"$folder/log" 2>&1 </dev/null &
server=$!
for _ in $(seq {tries}); do
    if (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null; then echo "$server"; exit 0; fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.02
done
kill -9 "$server" 2>/dev/null
tail -c 1000 "$folder/log"
exit 1
"""


class WorldBroke(Exception):
    """The application's world died with the application in it."""


class HiddenTests:
    """Runs them over one patched application, and holds the outcomes of the last run."""

    def __init__(self, world: Environment, judge: Environment, file: Path) -> None:
        self._world = world
        self._judge = judge
        self._file = file
        self.outcomes: dict[str, str] = {}
        self.reasons: dict[str, str] = {}

    async def run(self) -> int:
        """Start the application anew and run the tests; pytest's exit code, 1 if any expected test did not pass."""
        port, host_port, app_port = _ports(3)
        server, log = await self._start(port)
        if not server:
            self._all("failed", f"the application does not start: {log}")
            return 1
        try:
            return await self._judged(port, host_port, app_port)
        finally:
            with suppress(EnvironmentFault):
                await self._world.exec(["kill", "-9", server])

    async def _start(self, port: int) -> tuple[str, str]:
        """The server's process id, or "" and the end of its log."""
        serve = SERVE.format(port=port, folder='"$folder"')
        try:
            result = await self._world.exec(
                _START.format(serve=serve, port=port, tries=int(START_S / 0.02)), timeout_s=2 * START_S
            )
        except EnvironmentFault:
            raise WorldBroke from None
        said = result.stdout.decode("utf-8", "replace").strip()
        return (said, "") if result.ok and said.isdigit() else ("", said or "it did not answer in time")

    async def _judged(self, port: int, host_port: int, app_port: int) -> int:
        order = {"tests": "test.py", "app_port": app_port, "host_port": host_port}
        bridge = Bridge(self._world, port, self._judge, host_port)
        carrying = asyncio.create_task(bridge.carry())
        try:
            result = await self._judge.exec(
                ["python3", "judge.py"], stdin=json.dumps(order).encode(), timeout_s=ALL_TESTS_S
            )
        finally:
            carrying.cancel()
            with suppress(asyncio.CancelledError, EnvironmentFault):
                await carrying
        if bridge.died:
            raise WorldBroke
        if not result.ok:
            how = "did not end in time" if result.timed_out else f"ended with {result.exit_code}"
            raise GraderFault(f"the hidden tests {how}: {result.stderr.decode('utf-8', 'replace')[-1000:]}")
        verdict = json.loads(result.stdout)
        if verdict["exit_code"] >= 2:
            return int(verdict["exit_code"])
        self.note(verdict["outcomes"], verdict["reasons"])
        return int(bool(self.failed()))

    def note(self, outcomes: Mapping[str, str], reasons: Mapping[str, str]) -> None:
        """What is missing counts as failed. A test with parameters is one test: it is as good as its worst case."""
        self.outcomes, self.reasons = {}, {}
        for test in expected_tests(self._file):
            cases = {id: o for id, o in outcomes.items() if id.partition("::")[2].partition("[")[0] == test}
            worst = next((o for o in ("failed", "skipped", "passed") if o in cases.values()), "missing")
            self.outcomes[test] = worst
            why = next((reasons[id] for id, o in cases.items() if o == worst and id in reasons), "")
            if why:
                self.reasons[test] = why

    def _all(self, outcome: str, reason: str) -> None:
        tests = expected_tests(self._file)
        self.outcomes, self.reasons = dict.fromkeys(tests, outcome), dict.fromkeys(tests, reason)

    def failed(self) -> list[str]:
        return [test for test in self.outcomes if not self._counts_as_passed(test)]

    def _counts_as_passed(self, test: str) -> bool:
        """Only the browser's part may be skipped, where there is no browser: the HTTP part decides then."""
        outcome = self.outcomes[test]
        return outcome == "passed" or (outcome == "skipped" and expected_tests(self._file)[test])

    def explain(self, runs: Runs) -> str:
        failed = self.failed()
        skipped = [test for test, outcome in self.outcomes.items() if outcome == "skipped"]
        count = len(self.outcomes)
        lines = [f"{count - len(failed) - len(skipped)} of {count} hidden tests passed in run {runs.count}"]
        if failed:
            lines.append(f"failed: {', '.join(failed)}")
        if skipped and runs.passed:
            why = self.reasons.get(skipped[0], "").removeprefix("Skipped: ")
            lines.append(f"browser part skipped, the HTTP part decided: {why}")
        return "; ".join(lines)


def expected_tests(file: Path) -> Mapping[str, bool]:
    """The test functions of a file in their order, each with whether it drives a browser (takes the fixture `page`)."""
    module = ast.parse(file.read_text(encoding="utf-8"))
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return {f.name: any(argument.arg == "page" for argument in f.args.args) for f in functions}


def _ports(count: int) -> list[int]:
    """Different ones. Worlds have loopbacks of their own, except `local`: there, chance keeps parallel ones apart."""
    return secrets.SystemRandom().sample(range(20_000, 32_000), count)
