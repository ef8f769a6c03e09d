"""What scoring may reach: fresh worlds of the run's kind, and the judge through the episode's log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from trellis.benchmarks.benchmark import GraderFault
from trellis.environments.environment import Environment, EnvironmentSpec, StartWorld
from trellis.models.messages import Message
from trellis.models.model import GenerateConfig, Reply, Usage
from trellis.scaffolds.budget import Calls
from trellis.scaffolds.episode import Episode


class EpisodeGrader:
    """The grader of one episode; it counts what the judge used, which is not on the agent's account."""

    def __init__(
        self,
        episode: Episode,
        of_run: Callable[[EnvironmentSpec], EnvironmentSpec],
        label: str,
        start_world: StartWorld = EnvironmentSpec.start,
    ) -> None:
        self._episode = episode
        self._of_run = of_run
        self._label = label
        self._start_world = start_world
        self._worlds: list[Environment] = []
        self.judge_usage = Usage()
        self.judge_cost_usd: float | None = 0.0
        self.calls = Calls()

    async def start(self, spec: EnvironmentSpec) -> Environment:
        sealed = replace(  # the agents' way out is not ours
            self._of_run(spec),
            network=spec.network,
            allow=spec.allow,
            setup_network=spec.setup_network,
            setup_allow=spec.setup_allow,
        )
        world = await self._start_world(sealed, label=self._label)
        self._worlds.append(world)
        return world

    async def judge(self, messages: Sequence[Message], *, config: GenerateConfig = GenerateConfig()) -> Reply:
        reply = await self._episode.judge(messages, config=config)
        self.judge_usage += reply.usage
        self.calls += Calls.of(reply)
        if reply.cost_usd is None or self.judge_cost_usd is None:
            self.judge_cost_usd = None
        else:
            self.judge_cost_usd += reply.cost_usd
        if reply.stop_reason == "refusal":
            raise GraderFault("the judge declined to judge")
        return reply

    async def close(self) -> None:
        """Close what the benchmark left open, also after an error."""
        for world in self._worlds:
            await world.close()
