"""The submission file of an agent."""

from __future__ import annotations

from trellis.benchmarks.artefact import Refused, take
from trellis.environments.environment import Environment
from trellis.scaffolds.task import Submission


async def collect(environment: Environment, path: str, answer: str, cap_bytes: int) -> Submission:
    """The file at `path` as "submission.csv"; where it may not be read, "refused.txt" says why ("flag: reason").

    Raises:
        EnvironmentFault: the world broke.
    """
    try:
        content = await take(environment, path, cap_bytes)
    except Refused as refused:
        return Submission(answer, {"refused.txt": str(refused).encode()})
    return Submission(answer, {} if content is None else {"submission.csv": content})
