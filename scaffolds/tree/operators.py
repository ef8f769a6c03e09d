"""The operators of the search: draft, improve and debug, each a prompt that asks for a plan and a script.

The prompts say what AIDE's say (Jiang et al. 2025, arXiv:2502.13138, as run in MLE-bench), in our own words.
"""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass

from trellis.models.messages import Text, user
from trellis.scaffolds.episode import Episode, Refused
from trellis.scaffolds.tree.journal import Journal, Node
from trellis.scaffolds.tree.policy import Move
from trellis.scaffolds.tree.prompts import Prompt, fenced, markdown, trim

TRIES = 3
"""How often the model is asked for a usable answer."""

ROLE = "You are a machine learning engineer with a record of winning competitions."

FORMAT = (
    "Answer with a plan in 3 to 5 sentences of plain text, followed by exactly ONE Markdown code block (```python) "
    "that holds the whole script. Add no other headings and no text after the code."
)

DRAFT_GUIDELINE = (
    "This is a first design: keep it simple, without ensembling or hyperparameter search.",
    "Take the designs in the Memory section into account and propose a different one.",
    "Describe the solution in 3 to 5 sentences.",
    "Choose a sensible validation metric if the task does not name one.",
    "Do not propose exploratory data analysis.",
    "The data are in place in `./input`; nothing has to be unpacked.",
)

IMPROVE_GUIDELINE = (
    "Propose ONE specific, atomic improvement of the previous solution, so that its effect can be measured alone.",
    "Do not repeat what the Memory section shows to have been tried.",
    "Describe the improvement in 3 to 5 sentences.",
    "Do not propose exploratory data analysis.",
)

DEBUG_GUIDELINE = (
    "Find out from the output what went wrong, and fix it without changing the design.",
    "Describe the cause and the fix in 3 to 5 sentences.",
    "Do not propose exploratory data analysis.",
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What the operators tell the model besides the journal."""

    task: str
    submission: str = ""
    """Where the script must save its predictions."""
    overview: str = ""
    packages: str = ""
    exec_timeout_s: float = 3600.0
    k_fold: int = 5
    steps_left: int | None = None


def prompt_for(move: Move, journal: Journal, setting: Setting) -> Prompt:
    match move.stage, move.target:
        case "improve", Node() as target:
            return improve(target, journal, setting)
        case "debug", Node() as target:
            return debug(target, setting)
    return draft(journal, setting)


def draft(journal: Journal, setting: Setting) -> Prompt:
    prompt: dict[str, Prompt] = {
        "Introduction": f"{ROLE} Plan and write a solution of the task below from scratch, in Python.",
        "Task description": setting.task,
        "Memory": summary(journal),
        "Instructions": {
            "Response format": FORMAT,
            "Solution sketch guideline": DRAFT_GUIDELINE,
            "Implementation guideline": _implementation(setting),
            **({"Installed Packages": setting.packages} if setting.packages else {}),
        },
    }
    return prompt | ({"Data Overview": setting.overview} if setting.overview else {})


def improve(target: Node, journal: Journal, setting: Setting) -> Prompt:
    return {
        "Introduction": f"{ROLE} Below is a working solution of the task. Improve its result on unseen data.",
        "Task description": setting.task,
        "Memory": summary(journal),
        "Previous solution": {"Code": fenced(target.code, "python")},
        "Instructions": {
            "Response format": FORMAT,
            "Solution improvement sketch guideline": IMPROVE_GUIDELINE,
            "Implementation guideline": _implementation(setting),
        },
    }


def debug(target: Node, setting: Setting) -> Prompt:
    prompt: dict[str, Prompt] = {
        "Introduction": f"{ROLE} The previous solution of the task below failed. Revise it so that it works.",
        "Task description": setting.task,
        "Previous (buggy) implementation": fenced(target.code, "python"),
        "Execution output": fenced(trim(target.term_out)),
        "Instructions": {
            "Response format": FORMAT,
            "Bugfix improvement sketch guideline": DEBUG_GUIDELINE,
            "Implementation guideline": _implementation(setting),
        },
    }
    return prompt | ({"Data Overview": setting.overview} if setting.overview else {})


def _implementation(setting: Setting) -> Prompt:
    guideline = [
        "The script must carry out the plan and print the metric on held-out validation data on a line of its own: "
        "`Validation metric: <number>`.",
        "It must be one self-contained file that runs as it is, without arguments.",
        f"It must end within {setting.exec_timeout_s:g} seconds.",
        "All input is below `./input`; `./working` is free for temporary files.",
    ]
    if setting.submission:
        guideline.append(
            f"IMPORTANT: it must save its predictions for the test data to `./{setting.submission}`, in the format the "
            "task asks for; without that file the solution is worth nothing."
        )
    if setting.k_fold > 1:
        guideline.append(f"Validation by {setting.k_fold}-fold cross-validation is recommended where it fits.")
    if setting.steps_left is not None:
        guideline.append(f"{setting.steps_left} model calls are left for the whole search, this one included.")
    return guideline


def summary(journal: Journal) -> str:
    """The memory of the search: every good node's design, results and metric."""
    divider = "\n-------------------------------\n"
    return divider.join(
        f"Design: {node.plan}\nResults: {node.analysis}\nValidation Metric: {node.metric}\n" for node in journal.good
    )


# --- from the prompt to the plan and the code ------------------------------------------------------------------------


async def write(episode: Episode, prompt: Prompt) -> tuple[str, str]:
    """Ask for a plan and code. After `TRIES` unusable answers the last one is taken as code, with an empty plan.

    Raises:
        Refused: the model declined.
        LimitReached: the budget is spent.
    """
    media = (part for part in episode.task.prompt if not isinstance(part, Text))
    message = user(markdown(prompt), *media)
    for _ in range(TRIES):
        reply = await episode.generate([message], tools=())
        if reply.stop_reason == "refusal":
            raise Refused(reply.text)
        plan, code = extract(reply.text)
        if plan and code:
            return plan, code
    return "", reply.text


_BLOCK = re.compile(r"(`{3,})[ \t]*(\w*)[ \t]*\n(.*?)^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)


def extract(text: str) -> tuple[str, str]:
    """The plan (what comes before the first code block) and the code (all blocks that are valid Python, joined)."""
    blocks = [match[3] for match in _BLOCK.finditer(text)]
    code = "\n\n".join(block.strip("\n") for block in blocks if block.strip() and is_python(block))
    plan = text.partition("```")[0].strip() if "```" in text else ""
    return plan, f"{code}\n" if code else ""


def is_python(code: str) -> bool:
    """Does it parse? Nothing is run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
