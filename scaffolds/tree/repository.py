"""Tree search over an edited repository: a node is a short ReAct burst in a fork, scored by the visible tests.

The journal and the policy are those of the search over scripts (AIDE, Jiang et al. 2025, arXiv:2502.13138); operators
and evaluation are a repository's. Nothing but the visible tests is seen: hidden ones play no part in the search.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from trellis.models.messages import Message, system, user
from trellis.scaffolds.burst import react_burst
from trellis.scaffolds.context import ContextOptions
from trellis.scaffolds.episode import ContextFull, Episode, LimitReached
from trellis.scaffolds.reported import passed_share
from trellis.scaffolds.task import Submission
from trellis.scaffolds.tree.journal import Journal, Node
from trellis.scaffolds.tree.policy import Greedy, Move, choose_batch
from trellis.scaffolds.tree.prompts import fenced, trim

PROMPT = """\
You are an engineer working alone on a repository. Think before you act, then use the tools; each result comes back to
you. You have {steps} replies: look at the code, change it, run the tests, and hand in with the submit tool. Several
attempts are made at this task, and the one that does best in the visible tests counts."""

DIFFERENT = "Find out for yourself what is wrong, and try something different from what was tried."
ONWARDS = """\
The working folder holds attempt {id}, your starting point. Its changes are shown above, and this is what the visible
tests say of it. Go on from here: keep what is right, and change what is still wrong.

{output}"""


class RepositoryTree(ContextOptions):
    name: ClassVar[str] = "repo_tree"

    num_drafts: int = Field(default=2, ge=1)
    """Attempts from the untouched repository before any is continued."""
    debug_prob: float = Field(default=0.5, ge=0, le=1)
    """Probability of continuing an attempt that came to nothing, where there is one, rather than the best."""
    max_debug_depth: int = Field(default=2, ge=0)
    """An attempt that came to nothing so many times in a row is given up."""
    max_nodes: int | None = Field(default=None, ge=1)
    """Stop after so many nodes; None: go on until the budget is spent."""
    burst_steps: int = Field(default=12, ge=1)
    """Model replies per node at most."""
    parallel: int = Field(default=1, ge=1)
    """Nodes that are expanded at the same time. They are chosen, and committed, in a fixed order."""
    test_command: str = ""
    """The visible tests; empty means the task's own (`facts["test_command"]`)."""
    test_timeout_s: float = Field(default=600.0, gt=0)
    """How long the tests of a node may take."""

    async def solve(self, episode: Episode) -> None:
        """Search until all visible tests pass with some change, as no node can do better, or the budget is spent.

        Raises:
            ValueError: the task has no test command, or the search has no limit.
        """
        self._check(episode)
        policy = Greedy(self.num_drafts, self.debug_prob, self.max_debug_depth)
        journal, best = Journal(lower_is_better=False), None
        while not _solved(journal) and (size := self._batch_size(len(journal), episode.budget.steps_left)):
            moves = choose_batch(policy, journal, episode.random, size)
            best = await self._expand_all(episode, moves, journal, best)

    async def _expand_all(
        self, episode: Episode, moves: list[Move], journal: Journal, best: Submission | None
    ) -> Submission | None:
        """Expand each move in a fork, all at the same time, commit the nodes in the order of moves, and hand in the
        work of the best, which is returned. What a burst handed in by itself does not count.

        Raises:
            LimitReached: the budget was spent on the way; what came of it is committed all the same.
        """
        begun, limits = len(journal), list[LimitReached]()
        async with AsyncExitStack() as stack:
            branches = []
            for number, move in enumerate(moves, begun):
                start = move.target.snapshot if move.target else None
                branches.append(await stack.enter_async_context(episode.branch(f"node-{number}", at=start)))
            expanding = [self._expand(*each, journal) for each in zip(branches, moves, strict=True)]
            for outcome in await asyncio.gather(*expanding, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
                node, limit = outcome
                limits += [limit] if limit else []
                journal.commit(replace(node, id=len(journal)))
                _note(episode, journal[-1], journal)
            if journal.best is not None and journal.best.id >= begun:
                best = await branches[journal.best.id - begun].submit()
            elif best is not None and any(branch.handed_in for branch in branches):
                episode.hand_in(best)
        for limit in limits:
            raise limit
        return best

    async def _expand(self, branch: Episode, move: Move, journal: Journal) -> tuple[Node, LimitReached | None]:
        """A node, and the limit that ended its burst, if one did: what it achieved until then is judged."""
        limit: LimitReached | None = None
        await branch.use("shell", command=_REMEMBER_FOLDER)
        try:
            with suppress(ContextFull):  # the next node begins with an empty context
                await react_burst(branch, self._messages(branch, move, journal), self, self.burst_steps)
        except LimitReached as reached:
            limit = reached
        result = await branch.use("shell", command=_in_repository(self._tests(branch)), timeout_s=self.test_timeout_s)
        exit_code = -1 if result.data.get("timed_out") else int(result.data.get("exit_code", -1))
        diff = (await branch.use("shell", command=f"{_in_repository(_DIFF)}; {_RETURN}")).text
        before = move.target.code if move.target else ""
        changed = _changes(diff) != _changes(before)
        share = passed_share(result.text)
        metric = share if share is not None else float(exit_code == 0)
        node = Node(
            id=len(journal),
            parent=move.target.id if move.target else None,
            plan=move.stage,
            code=diff,
            is_buggy=not changed,
            metric=metric if changed else None,
            lower_is_better=False,
            analysis=f"{metric:.0%} of the visible tests pass" if changed else "changed nothing",
            term_out=result.text,
            branch=branch.name,
            snapshot=await branch.snapshot(),
        )
        return node, limit

    def _messages(self, branch: Episode, move: Move, journal: Journal) -> list[Message]:
        messages = [system(PROMPT.format(steps=self.burst_steps)), user(*branch.task.prompt)]
        if len(journal):
            tried = [_told(node) for node in journal]
            if move.target is None or move.target.is_buggy:
                tried.append(DIFFERENT)
            else:
                output = fenced(trim(move.target.term_out))
                tried.append(ONWARDS.format(id=move.target.id + 1, output=output))
            messages.append(user("\n\n".join(tried)))
        return messages

    def _tests(self, episode: Episode) -> str:
        return self.test_command or str(episode.task.facts.get("test_command", ""))

    def _check(self, episode: Episode) -> None:
        budget = episode.budget
        if not self._tests(episode):
            raise ValueError(f"repo_tree: task {episode.task.id} names no visible tests; give -S test_command=...")
        if all(
            limit is None for limit in (self.max_nodes, budget.steps, budget.tokens, budget.cost_usd, budget.time_s)
        ):
            raise ValueError("repo_tree: a search without end; set a limit for the episode, or -S max_nodes=N")

    def _batch_size(self, nodes: int, steps_left: int | None) -> int:
        """How many nodes to expand next; more than one only where the budget pays for all their steps, so that none
        takes the steps of one that was chosen before."""
        size = self.parallel if self.max_nodes is None else min(self.parallel, self.max_nodes - nodes)
        if steps_left is None:
            return size
        return min(size, max(1, steps_left // self.burst_steps)) if steps_left else 0


def _solved(journal: Journal) -> bool:
    return journal.best is not None and journal.best.metric == 1.0


_DIFF = """\
git diff HEAD
git ls-files --others --exclude-standard -z |
while IFS= read -r -d "" new; do git diff --no-index /dev/null "$new"; done"""
"""Every change since the last commit, new files included, with the index left alone."""
_REMEMBER_FOLDER = "TRELLIS_WORKDIR=$PWD"
_RETURN = 'cd "${TRELLIS_WORKDIR:-.}"; unset TRELLIS_WORKDIR'
"""A fork's shell is where that of its origin was: the next burst is to begin in the folder of the beginning."""


def _in_repository(command: str) -> str:
    """The command in the folder of the beginning, wherever a burst has left the shell (one that was started anew is in
    it already), and without compiled files, which could be believed after an edit within the same second."""
    return f'(cd "${{TRELLIS_WORKDIR:-.}}" && export PYTHONDONTWRITEBYTECODE=1 && {command})'


def _changes(diff: str) -> list[str]:
    return [line for line in diff.splitlines() if line.startswith(("+", "-"))]


def _told(node: Node) -> str:
    changes = f"\n{fenced(trim(node.code), 'diff')}" if not node.is_buggy else ""
    return f"Attempt {node.id + 1}: {node.analysis}.{changes}"


def _note(episode: Episode, node: Node, journal: Journal) -> None:
    episode.note(
        "node",
        id=node.id,
        parent=node.parent,
        branch=node.branch,
        stage=journal.stage(node),
        plan=node.plan,
        is_buggy=node.is_buggy,
        metric=node.metric,
        lower_is_better=False,
        analysis=node.analysis,
        exec_time_s=node.exec_time_s,
        best=journal.best is node,
    )
