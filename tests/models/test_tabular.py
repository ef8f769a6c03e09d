"""`offline/tabular`: what it reads, what it writes, what it gets wrong, and how it puts that right."""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from trellis.models.messages import Message, Text, ToolCall, ToolResult, assistant, system, user
from trellis.models.model import GenerateConfig, Reply, ToolSpec
from trellis.models.offline.tabular import Tabular
from trellis.models.offline.tabular_designs import Attempt, draft, find_designs, improve, models
from trellis.models.offline.tabular_mistakes import MISTAKES, Mistake
from trellis.models.offline.tabular_prompts import answer_review, failure
from trellis.models.offline.tabular_reading import Reading, read
from trellis.models.offline.tabular_repairs import repair
from trellis.models.offline.tabular_script import write_script

TASK = """\
Files: `input/train.csv`, `input/test.csv`, `input/sample_submission.csv`, `input/description.md`.
Hand in predictions for every test row as `submission/submission.csv`.

Metric: {metric}. {direction} is better.

# Houses

Predict the column that is missing from the test data."""

HEAD = """\
==> ./input/sample_submission.csv <==
{sample}

==> ./input/test.csv <==
key,area,street,rooms
401,,B,3

==> ./input/train.csv <==
key,area,street,rooms,{target}
1,33.5,A,2,{value}
2,,B,1,{value}
"""
"""Output of `head`, as an agent with a shell sees it."""

RUNNER = """
import contextlib, io, json, os, shutil, sys, traceback, warnings
warnings.simplefilter("ignore")
for line in sys.stdin:
    folder, code = json.loads(line)
    os.chdir(folder)
    shutil.rmtree("submission", ignore_errors=True)
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(code, "script.py", "exec"), {"__name__": "__main__"})
    except BaseException:
        out.write(traceback.format_exc() + "[exit code 1]")
    path = "submission/submission.csv"
    print(json.dumps((out.getvalue(), open(path).read() if os.path.exists(path) else None)), flush=True)
"""
Outcome = tuple[str, str | None]
"""What a script printed, and the submission it wrote."""


Run = Callable[[Sequence[tuple[Path, str]]], list[Outcome]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs scripts for real, one after the other in one interpreter, so that scikit-learn is imported once."""
    one_thread = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    command, env = [sys.executable, "-c", RUNNER], {**os.environ, **one_thread}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as interpreter:
        asked, answers = interpreter.stdin, interpreter.stdout
        assert asked is not None
        assert answers is not None

        def run_each(scripts: Sequence[tuple[Path, str]]) -> list[Outcome]:
            outcomes = []
            for folder, code in scripts:
                print(json.dumps((str(folder), code)), file=asked, flush=True)
                output, submission = json.loads(answers.readline())
                outcomes.append((output, submission))
            return outcomes

        yield run_each


def houses(folder: Path, metric: str) -> Reading:
    """Data with missing numbers and a text column, and what can be read of them in the output of `head`."""
    rng = random.Random(5)
    rows = []
    for key in range(1, 241):
        area, street, rooms = rng.uniform(20, 200), rng.choice("ABCD"), rng.randint(1, 6)
        price = area * (2 if street == "A" else 1) + 10 * rooms + rng.gauss(0, 20)
        rows.append((key, "" if rng.random() < 0.2 else f"{area:.1f}", f"street {street}", rooms, price))
    value: dict[str, Any] = {
        "probability": lambda price: int(price > 180),
        "value": lambda price: round(price, 2),
        "label": lambda price: int(price // 120),
    }
    kind = read(metric, "").metric.kind
    classes = metric == "multi-class log loss"
    target = [("dear" if p > 200 else "cheap" if p < 120 else "fair") if classes else value[kind](p) for *_, p in rows]
    sample = "key,price_cheap,price_dear,price_fair" if classes else "key,price"
    (folder / "input").mkdir(parents=True)
    table = [",".join(map(str, row[:-1])) for row in rows]
    train = [f"{row},{t}" for row, t in zip(table[:180], target, strict=False)]
    (folder / "input/train.csv").write_text("\n".join(["key,area,street,rooms,price", *train]) + "\n")
    (folder / "input/test.csv").write_text("\n".join(["key,area,street,rooms", *table[180:]]) + "\n")
    first = f"181{',0.5' * (3 if classes else 1)}"
    (folder / "input/sample_submission.csv").write_text(f"{sample}\n{first}\n")
    shown = HEAD.format(sample=f"{sample}\n{first}", target="price", value=target[0])
    return read(TASK.format(metric=metric, direction="Higher"), shown)


METRICS = (
    "accuracy",
    "AUC-ROC",
    "log loss",
    "multi-class log loss",
    "RMSE",
    "RMSLE",
    "MAE",
    "quadratic weighted kappa",
    "macro F1",
)


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "lower"),
    [
        ("Metric: root_mean_squared_error (RMSE). Lower is better.", "RMSE", True),
        ("Submissions are evaluated by the root mean squared logarithmic error.", "RMSLE", True),
        ("Evaluated on area under the ROC curve between the predictions and the target.", "AUC", False),
        ("Metric: auc-roc.", "AUC", False),
        ("## Evaluation\n\nMulti-class logarithmic loss over the ten digits", "log loss", True),
        ("Accuracy matters to us in daily work. The metric is the mean absolute error.", "MAE", True),
        ("Submissions are scored by the quadratic weighted kappa, which corrects accuracy for chance.", None, False),
        ("The evaluation metric is the macro-averaged F1.", "macro F1", False),
        ("Metric: f1-macro", "macro F1", False),
        ("nothing is said", "accuracy", False),
    ],
)
def test_the_metric_is_read_where_the_task_speaks_of_the_evaluation(text: str, name: str | None, lower: bool) -> None:
    metric = read(text, "").metric
    assert (metric.name, metric.lower_is_better) == (name or "quadratic weighted kappa", lower)


def test_columns_are_read_from_head() -> None:
    reading = read(
        TASK.format(metric="RMSE", direction="Lower"), HEAD.format(sample="key,price", target="price", value=3)
    )
    assert (reading.id_column, reading.target, reading.outputs) == ("key", "price", ("price",))
    assert reading.path("train") == "./input/train.csv"
    assert reading.submission == "submission/submission.csv"
    assert (reading.has_missing, reading.has_text) == (True, False)


def test_columns_are_read_from_the_overview_that_the_tree_search_shows() -> None:
    shown = """
-> input/sample_submission.csv has 2 rows and 3 columns.
Here is some information about the columns:
key (integer, from 1 to 2, 2 different values)
p_no (float, from 0.5 to 0.5, 1 different values)
p_yes (float, from 0.5 to 0.5, 1 different values)

-> input/test.csv has 2 rows and 70 columns.
The columns are: key, pixel_0, pixel_1, ... 64 more ..., pixel_66, pixel_67, pixel_68

-> input/train.csv has 9 rows and 71 columns.
The columns are: key, pixel_0, pixel_1, ... 64 more ..., pixel_66, pixel_67, pixel_68, answer"""
    reading = read(TASK.format(metric="log loss", direction="Lower"), shown)
    assert (reading.id_column, reading.outputs) == ("key", ("p_no", "p_yes"))
    assert reading.target == "answer"
    assert reading.is_wide
    assert "boosting" not in models(reading)


# --- scripts ----------------------------------------------------------------------------------------------------------


def test_scripts_run_and_hand_in_what_each_metric_needs(tmp_path: Path, run: Run) -> None:
    """Two drafts and an improvement of each, for every metric, run for real."""
    scripts: list[tuple[Path, str]] = []
    for number, metric in enumerate(METRICS):
        reading = houses(tmp_path / str(number), metric)
        rng = random.Random(number)
        tried: list[Attempt] = []
        for _ in range(2):
            tried.append(Attempt(draft(reading, tried, rng)))
            tried.append(Attempt(improve(tried[-1].design, reading, tried, rng)[0]))
        scripts += [(tmp_path / str(number), write_script(attempt.design, reading, 3)) for attempt in tried]
    for (folder, code), (output, submission) in zip(scripts, run(scripts), strict=True):
        metric = METRICS[int(folder.name)]
        assert re.search(r"^Validation metric: -?[\d.]+$", output, re.MULTILINE), f"{metric}\n{code}\n{output}"
        header, *rows = (submission or "").splitlines()
        assert header == (folder / "input/sample_submission.csv").read_text().splitlines()[0]
        assert [row.split(",")[0] for row in rows] == [str(key) for key in range(181, 241)]
        values = [[float(cell) for cell in row.split(",")[1:]] for row in rows]
        if metric in ("AUC-ROC", "log loss", "multi-class log loss"):
            assert all(0 <= cell <= 1 for row in values for cell in row)
            assert len({tuple(row) for row in values}) > 3
        if metric in ("accuracy", "macro F1", "quadratic weighted kappa"):
            assert all(row[0].is_integer() for row in values)


def test_mistakes_are_real_and_mended_from_the_shown_output_alone(tmp_path: Path, run: Run) -> None:
    metrics = ("AUC-ROC", "multi-class log loss", "RMSLE", "quadratic weighted kappa")
    readings = {metric: houses(tmp_path / str(i), metric) for i, metric in enumerate(metrics)}
    rng = random.Random(2)
    cases: list[tuple[Mistake, Reading, Path, str]] = []
    for i, reading in enumerate(readings.values()):
        for mistake in MISTAKES:
            design = {**draft(reading, (), rng), "model": "linear", "strength": 1.0}
            if (code := mistake(script := write_script(design, reading, 3), reading, rng)) != script:
                cases.append((mistake, reading, tmp_path / str(i), code))
    outcomes = run([(folder, code) for _, _, folder, code in cases])
    failed = [(case, out) for case, (out, made) in zip(cases, outcomes, strict=True) if failure(out) or not made]
    assert {mistake for (mistake, *_), _ in failed} == set(MISTAKES)  # each fails for real somewhere

    attempts = 0
    while failed and attempts < 3:
        attempts += 1
        mended = []
        for (mistake, reading, folder, code), output in failed:
            new = repair(code, output, reading)
            assert new is not None, f"{mistake.__name__}\n{output}"
            mended.append((mistake, reading, folder, new.code))
        outcomes = run([(folder, code) for _, _, folder, code in mended])
        failed = [(case, out) for case, (out, made) in zip(mended, outcomes, strict=True) if failure(out) or not made]
    assert not failed, failed[0]


# --- prompts without tools --------------------------------------------------------------------------------------------


async def ask(model: Tabular, prompt: str, seed: int = 1) -> Reply:
    return await model.generate([user(prompt)], config=GenerateConfig(seed=seed))


def prompt(**sections: str) -> str:
    task = TASK.format(metric="AUC-ROC", direction="Higher")
    shown = HEAD.format(sample="key,price\n401,0.5", target="price", value=1)
    parts = {"Task description": task, **{k.replace("_", " "): v for k, v in sections.items()}, "Data Overview": shown}
    return "\n\n".join(f"# {title}\n\n{text}" for title, text in parts.items())


def code_of(reply: Reply) -> str:
    found = re.search(r"```python\n(.*)\n```$", reply.text, re.DOTALL)
    assert found, reply.text
    return found[1]


async def test_an_answer_is_a_function_of_messages_tools_and_seed() -> None:
    model = Tabular()
    assert await ask(model, prompt(), 1) == await ask(model, prompt(), 1)
    assert len({(await ask(model, prompt(), seed)).text for seed in range(8)}) > 4
    reply = await ask(model, prompt())
    assert reply.cost_usd == 0.0
    assert reply.usage.input > 100
    assert reply.usage.output > 100


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.6])
async def test_scripts_have_mistakes_at_the_stated_rate(rate: float) -> None:
    honest, model = Tabular(bug_rate=0), Tabular(bug_rate=rate)
    wrong = 0
    for seed in range(400):
        code = code_of(await ask(model, prompt(), seed))
        wrong += code != code_of(await ask(honest, prompt(), seed))
    assert abs(wrong / 400 - rate) < 0.06


async def test_an_improvement_changes_one_thing_that_was_not_tried() -> None:
    model = Tabular(bug_rate=0)
    first = await ask(model, prompt())
    base = find_designs(code_of(first))[0][1]
    memory, tried = "", [base]
    for seed in range(12):
        asked = prompt(Memory=memory, Previous_solution=f"## Code\n\n```python\n{code_of(first)}\n```")
        reply = await ask(model, asked, seed)
        design = find_designs(code_of(reply))[0][1]
        assert design not in tried
        changed = {key for key in base.keys() | design.keys() if base.get(key) != design.get(key)}
        assert len(changed) == 1 or "model" in changed
        tried.append(design)
        memory += f"\nDesign: {reply.text.partition('```')[0]}\nResults: fine\nValidation Metric: 0.5\n"


async def test_drafts_try_kinds_of_models_that_were_not_tried() -> None:
    memory, seen = "", set()
    for seed in range(5):
        reply = await ask(Tabular(bug_rate=0), prompt(Memory=memory), seed)
        seen.add(find_designs(reply.text)[0][1]["model"])
        memory += f"\nDesign: {reply.text.partition('```')[0]}\nResults: fine\nValidation Metric: 0.5\n"
    assert len(seen) == 5


async def test_a_repair_keeps_the_design() -> None:
    model = Tabular(bug_rate=0)
    code = code_of(await ask(model, prompt()))
    broken = code.replace('TARGET = "price"', 'TARGET = "Prices"')
    output = "Traceback (most recent call last):\n  ...\nKeyError: 'Prices'\n[exit code 1]"
    sections = {"Previous_(buggy)_implementation": f"```python\n{broken}\n```", "Execution_output": output}
    reply = await ask(model, prompt(**sections))
    assert code_of(reply) == code
    assert "KeyError: 'Prices'" in reply.text.partition("```")[0]


async def test_what_it_does_not_understand_it_writes_anew() -> None:
    output = "Traceback (most recent call last):\n  ...\nFrobnicationError: the frob is nicated\n[exit code 1]"
    sections = {"Previous_(buggy)_implementation": "```python\nx = 1\n```", "Execution_output": output}
    reply = await ask(Tabular(bug_rate=0), prompt(**sections))
    assert "another start" in reply.text
    assert "make_pipeline" in code_of(reply)


@pytest.mark.parametrize(
    ("output", "bug", "metric"),
    [
        ("Validation metric: 0.8125\nSubmission: (60, 2)", False, 0.8125),
        ("fold 1 score: 0.1\nfold 2 score: 0.2\nValidation metric: -3", False, -3.0),
        ("Validation metric: 0.8\nTraceback (most recent call last):\nKeyError: 'a'\n[exit code 1]", True, None),
        ("done", True, None),
        ("Validation metric: 0.8\n[timed out: the script was killed after 5 s]", True, None),
        ("Validation metric: 0.8\n[the run left no file submission/submission.csv]", True, None),
    ],
)
async def test_a_review_reads_the_output_that_is_shown(output: str, bug: bool, metric: float | None) -> None:
    asked = (
        f"# Task description\n\n{TASK.format(metric='RMSE', direction='Lower')}\n\n# Implementation\n\n"
        "```python\nsubmission.to_csv('submission/submission.csv')\n```\n\n"
        f"# Execution output\n\n```\n{output}\n```"
    )
    spec = ToolSpec("submit_review", "Review.", {"type": "object", "properties": {}})
    config = GenerateConfig(tool_choice="submit_review", seed=3)
    reply = await Tabular().generate([user(asked)], tools=[spec], config=config)
    (call,) = reply.tool_calls
    assert call.name == "submit_review"
    assert (call.arguments["is_bug"], call.arguments["metric"]) == (bug, metric)
    assert call.arguments["lower_is_better"] is True
    assert call.arguments["has_csv_submission"] is not bug or output == "done"
    assert call.arguments == answer_review(asked)


# --- with tools -------------------------------------------------------------------------------------------------------

TOOLS = [ToolSpec(name, name, {"type": "object", "properties": {}}) for name in ("shell", "python", "submit")]


class Conversation:
    """An agent's conversation in which the tools answer what the test says."""

    def __init__(self, model: Tabular, tools: Sequence[ToolSpec] = TOOLS) -> None:
        self.model, self.tools = model, tools
        self.messages: list[Message] = [
            system("You are an engineer."),
            user(TASK.format(metric="MAE", direction="Lower")),
        ]

    async def next(self) -> ToolCall:
        seed = GenerateConfig(seed=len(self.messages))
        reply = await self.model.generate(self.messages, tools=self.tools, config=seed)
        self.messages.append(reply.message)
        (call,) = reply.tool_calls
        return call

    def answer(self, call: ToolCall, text: str) -> None:
        self.messages.append(ToolResult(call.id, call.name, (Text(text),)).message)


async def test_with_tools_it_looks_writes_repairs_improves_and_hands_in() -> None:
    talk = Conversation(Tabular(bug_rate=0, patience=2))
    look = await talk.next()
    assert look.name == "shell"
    talk.answer(look, HEAD.format(sample="key,price\n401,1.0", target="price", value=1.5))

    codes = []
    for output in (
        "Traceback (most recent call last):\nNameError: name 'np' is not defined\n[exit code 1]",
        "Validation metric: 5.0",
        "Validation metric: 4.0",
        "Validation metric: 4.5",
        "Validation metric: 4.2",
    ):
        call = await talk.next()
        assert call.name == "python"
        codes.append(call.arguments["code"])
        talk.answer(call, output)
    assert find_designs(codes[1])[0][1] == find_designs(codes[0])[0][1]  # the repair kept the design
    assert len(set(codes[1:])) == 4

    again = await talk.next()
    assert again.arguments["code"] == codes[2]  # the best once more, because later scripts wrote over its file
    talk.answer(again, "Validation metric: 4.0")
    assert (await talk.next()).name == "submit"


async def test_without_a_python_tool_it_runs_scripts_in_the_shell() -> None:
    talk = Conversation(Tabular(bug_rate=0, max_scripts=1), TOOLS[::2])
    talk.answer(await talk.next(), HEAD.format(sample="key,price\n401,1.0", target="price", value=1.5))
    call = await talk.next()
    assert call.name == "shell"
    assert call.arguments["command"].startswith("cat > solution.py <<'EOF'\n")
    talk.answer(call, "Validation metric: 5.0")
    assert (await talk.next()).name == "submit"


async def test_where_there_is_no_table_it_hands_in_at_once() -> None:
    talk = Conversation(Tabular())
    talk.messages = [user("The web shop shows a wrong price. Fix it.")]
    talk.answer(await talk.next(), "shop.js")
    assert (await talk.next()).name == "submit"


async def test_without_tools_of_use_it_says_so() -> None:
    reply = await Tabular().generate([user("Hello")], tools=[TOOLS[2]], config=GenerateConfig(seed=1))
    assert reply.message == assistant("I can only work on tables with a tool that runs scripts.")
