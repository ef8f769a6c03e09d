"""The tree search against the outputs of AIDE's own code. Where we knowingly differ, the test says so."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from trellis.scaffolds.tree.journal import Journal, Node, better
from trellis.scaffolds.tree.operators import extract, summary
from trellis.scaffolds.tree.policy import Greedy
from trellis.scaffolds.tree.prompts import markdown, trim
from trellis.scaffolds.tree.review import Run, verdict

pytestmark = pytest.mark.golden

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "aide.json"
CASES: dict[str, list[dict[str, Any]]] = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}

if not CASES:
    pytest.skip("the reference outputs ../shared/golden/aide.json are not here", allow_module_level=True)


def journal(case: dict[str, Any], lower_is_better: bool = False) -> Journal:
    nodes = (
        Node(
            id=n["idx"],
            parent=n["parent"],
            plan=f"plan {n['idx']}",
            code="x",
            is_buggy=n["is_buggy"],
            metric=n["metric"],
            analysis=f"analysis {n['idx']}",
        )
        for n in case["nodes"]
    )
    return Journal(tuple(nodes), lower_is_better=lower_is_better)


class Draws(Random):
    """Random whose uniform draws are the given one."""

    def __init__(self, draw: float) -> None:
        super().__init__(0)
        self.draw = draw

    def random(self) -> float:
        return self.draw


@pytest.mark.parametrize("case", CASES["search_policy"])
def test_the_policy_chooses_as_aide_does(case: dict[str, Any]) -> None:
    tree = journal(case, lower_is_better=not case["maximize"])
    policy = Greedy(case["num_drafts"], case["debug_prob"], case["max_debug_depth"])
    expected = case["expected"]

    assert [tree.stage(node) for node in tree] == expected["stages"]
    assert [tree.debug_depth(node) for node in tree] == expected["debug_depths"]
    assert [node.id for node in tree if tree.is_leaf(node)] == expected["leaves"]
    assert (None if tree.best is None else tree.best.id) == expected["best_idx"]

    move = policy.choose(tree, Draws(case["uniform_draw"]))
    assert move.stage == expected["action"]
    if move.stage == "debug":
        assert [node.id for node in policy.debuggable(tree)] == expected["debug_candidates"]
        assert move.target in policy.debuggable(tree)
    else:
        assert (None if move.target is None else move.target.id) == expected["target"]


@pytest.mark.parametrize("case", CASES["metric_compare"])
def test_metrics_compare_as_in_aide(case: dict[str, Any]) -> None:
    """Differs knowingly: a journal has one direction, so two directions cannot meet (the reference raises)."""
    lower = not case["a_maximize"]
    a_better = better(case["a"], case["b"], lower_is_better=lower)
    if "expected_error" in case:
        nodes = [
            Node(0, None, "", "", False, case["a"], lower_is_better=lower),
            Node(1, None, "", "", False, case["b"], lower_is_better=not case["b_maximize"]),
        ]
        best = Journal(nodes).best
        assert best is not None
        assert best.id == int(better(case["b"], case["a"], lower_is_better=lower))
    else:
        assert a_better == case["expected"]["a_better_than_b"]


@pytest.mark.parametrize("case", CASES["metric_parse"])
def test_reviews_are_judged_as_in_aide(case: dict[str, Any]) -> None:
    """Differs knowingly: a whole number is a metric."""
    failure = case["exc_type"]
    run = Run(
        "",
        exit_code=0 if failure is None else 1,
        timed_out=failure == "TimeoutError",
        has_submission=case["submission_file_exists"],
    )
    seen = verdict(case["review"], run)
    expected = case["expected"]
    metric = case["review"]["metric"]
    sound = failure is None and run.has_submission and case["review"]["has_csv_submission"]
    if isinstance(metric, int) and sound and not case["review"]["is_bug"]:
        assert (seen.is_buggy, seen.metric) == (False, float(metric))
        return
    assert seen.is_buggy == expected["is_buggy"]
    assert seen.metric == expected["metric_value"]
    if not seen.is_buggy:
        assert seen.lower_is_better == (not expected["maximize"])


@pytest.mark.parametrize("case", CASES["trim_long_string"])
def test_long_output_is_trimmed_as_in_aide(case: dict[str, Any]) -> None:
    text = "".join(chr(97 + i % 26) for i in range(case["length"]))
    trimmed = trim(text)
    assert len(trimmed) == case["expected_length"]
    if case["truncated"]:
        assert trimmed == text[:2500] + case["marker"] + text[-2500:]
    else:
        assert trimmed == text


@pytest.mark.parametrize("case", CASES["extract"])
def test_plan_and_code_are_extracted_as_in_aide(case: dict[str, Any]) -> None:
    """Differs knowingly: code is compared as a syntax tree (the reference runs Black); a fence tagged `py` is Python
    (the reference takes the tag as code); an answer that has no fence has no code."""
    plan, code = extract(case["text"])
    assert bool(plan and code) == case["accepted"]
    if case["accepted"]:
        expected = case["expected_code"].removeprefix("py\n") if "```py\n" in case["text"] else case["expected_code"]
        assert plan == case["expected_text"]
        assert ast.dump(ast.parse(code)) == ast.dump(ast.parse(expected))


@pytest.mark.parametrize("case", CASES["summary"])
def test_the_memory_reads_as_in_aide(case: dict[str, Any]) -> None:
    assert summary(journal(case)) == case["expected"]


@pytest.mark.parametrize("case", CASES["prompt_md"])
def test_prompts_become_markdown_as_in_aide(case: dict[str, Any]) -> None:
    assert markdown(case["prompt"]) == case["expected"]
