"""Tree search over whole scripts, after AIDE (Jiang et al. 2025, arXiv:2502.13138)."""

from __future__ import annotations

import asyncio
import shlex
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from trellis.scaffolds.episode import Budget, Episode
from trellis.scaffolds.scaffold import ScaffoldOptions
from trellis.scaffolds.tree.journal import Journal, Node
from trellis.scaffolds.tree.operators import TRIES, Setting, prompt_for, write
from trellis.scaffolds.tree.policy import Greedy, Move, choose_batch
from trellis.scaffolds.tree.preview import look
from trellis.scaffolds.tree.review import Run, Verdict, read_output, review


class Tree(ScaffoldOptions):
    name: ClassVar[str] = "tree"

    num_drafts: int = Field(default=5, ge=1)
    """Independent first designs before anything is improved."""
    debug_prob: float = Field(default=0.5, ge=0, le=1)
    """Probability of debugging a failed node, where there is one, rather than improving the best (MLE-bench ran 1)."""
    max_debug_depth: int = Field(default=3, ge=0)
    """A failed node that is more debug steps deep than this is given up (MLE-bench ran 20)."""
    max_nodes: int | None = Field(default=None, ge=1)
    """Stop after so many nodes; None: go on until the budget is spent. `num_drafts=1` and 1 is a single draft."""
    parallel: int = Field(default=1, ge=1)
    """Nodes that are expanded at the same time. They are chosen, and committed, in a fixed order."""
    exec_timeout_s: float = Field(default=3600.0, gt=0)
    """How long a node's script may run."""
    k_fold: int = Field(default=5, ge=1)
    """Folds of cross-validation recommended to the model; 1: no recommendation."""
    data_preview: bool = True
    """Show the model an overview of the data when it drafts and debugs."""
    review: Literal["model", "output"] = "model"
    """Who reads a run's output: the model of role "review", or a pattern ("Validation metric: 0.8"), without a model
    call."""

    async def solve(self, episode: Episode) -> None:
        budget = episode.budget
        limits = (self.max_nodes, budget.steps, budget.tokens, budget.cost_usd, budget.time_s)
        if all(limit is None for limit in limits):
            raise ValueError("tree: a search without end; set a limit for the episode, or -S max_nodes=N")
        if missing := {"python", "shell"} - {tool.spec.name for tool in episode.tools}:
            raise ValueError(
                f"tree: runs its scripts by tools that are not on offer here: {', '.join(sorted(missing))}"
            )
        policy = Greedy(self.num_drafts, self.debug_prob, self.max_debug_depth)
        journal = Journal(lower_is_better=episode.task.facts.get("lower_is_better"))
        setting = await self._setting(episode)
        while size := self._batch_size(journal, budget):
            moves = choose_batch(policy, journal, episode.random, size)
            setting = replace(setting, steps_left=budget.steps_left)
            await self._expand_all(episode, moves, journal, setting)

    async def _expand_all(self, episode: Episode, moves: list[Move], journal: Journal, setting: Setting) -> None:
        """Expand each move in a fork of the world, all at the same time, and commit the nodes in the order of moves."""
        async with AsyncExitStack() as stack:
            ids = range(len(journal), len(journal) + len(moves))
            branches = [await stack.enter_async_context(episode.branch(f"node-{id}")) for id in ids]
            expanding = [self._expand(*each, journal, setting) for each in zip(ids, branches, moves, strict=True)]
            expanded = await asyncio.gather(*expanding, return_exceptions=True)
            for branch, node in zip(branches, expanded, strict=True):
                if isinstance(node, BaseException):
                    raise node
                journal.commit(node)
                if node is journal.best:
                    await branch.submit()
                _note(episode, node, journal)

    async def _expand(self, id: int, branch: Episode, move: Move, journal: Journal, setting: Setting) -> Node:
        plan, code = await write(branch, prompt_for(move, journal, setting))
        run = await self._run(branch, code)
        seen = await self._review(branch, setting.task, code, run)
        return Node(
            id=id,
            parent=None if move.target is None else move.target.id,
            plan=plan,
            code=code,
            is_buggy=seen.is_buggy,
            metric=seen.metric,
            lower_is_better=seen.lower_is_better,
            analysis=seen.summary,
            term_out=run.output,
            exec_time_s=run.duration_s,
            branch=branch.name,
        )

    async def _run(self, branch: Episode, code: str) -> Run:
        result = await branch.use("python", code=code, timeout_s=self.exec_timeout_s, fresh=True)
        path = branch.task.facts.get("submission")
        exists = path is None or await _exists(branch, path)
        facts = result.data
        return Run(
            result.text if exists else f"{result.text}\n[the run left no file {path}]",
            exit_code=int(facts.get("exit_code", 1)),
            timed_out=bool(facts.get("timed_out", False)),
            has_submission=exists,
            duration_s=float(facts.get("duration_s", 0.0)),
        )

    async def _review(self, branch: Episode, task: str, code: str, run: Run) -> Verdict:
        if self.review == "output":
            return read_output(run, branch.task.facts.get("lower_is_better"))
        return await review(branch, task, code, run)

    async def _setting(self, episode: Episode) -> Setting:
        overview, packages = await look(episode) if self.data_preview else ("", "")
        return Setting(
            task=episode.task.text,
            submission=str(episode.task.facts.get("submission", "")),
            overview=overview,
            packages=packages,
            exec_timeout_s=self.exec_timeout_s,
            k_fold=self.k_fold,
        )

    def _batch_size(self, journal: Journal, budget: Budget) -> int:
        """How many nodes to expand next. 0: the budget does not pay for another one. More than one only where it pays
        for them whatever happens, so that none of them takes the steps of one that was chosen before."""
        size = self.parallel if self.max_nodes is None else min(self.parallel, self.max_nodes - len(journal))
        left = budget.steps_left
        if left is None:
            return size
        reviews = 1 if self.review == "model" else 0
        if left < 1 + reviews:
            return 0
        return min(size, max(1, left // (TRIES + reviews)))


async def _exists(branch: Episode, path: str) -> bool:
    result = await branch.use("shell", command=f"test -f {shlex.quote(path)}")
    return result.data.get("exit_code") == 0


def _note(episode: Episode, node: Node, journal: Journal) -> None:
    """The node for viewers and exporters. Its code and output are in the branch: the first call of `python`."""
    episode.note(
        "node",
        id=node.id,
        parent=node.parent,
        branch=node.branch,
        stage=journal.stage(node),
        plan=node.plan,
        is_buggy=node.is_buggy,
        metric=node.metric,
        lower_is_better=journal.lower_is_better,
        analysis=node.analysis,
        exec_time_s=node.exec_time_s,
        best=journal.best is node,
    )
