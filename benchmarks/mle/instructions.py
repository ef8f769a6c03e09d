"""What an agent is told."""

from __future__ import annotations

from trellis.benchmarks.mle.competition import Competition

RULES = """\
You take part in an offline machine-learning competition. Train a model on the training data and predict the test data.

Files, relative to the working folder:
- `input/description.md`: the competition's description, which also follows below
{files}

Hand in predictions for every test row as `{submission}`, in the format of the sample submission: a regular file with \
the same columns and exactly the test ids. It is this file, as it is when you are done, that is scored.

Metric: {metric}. {direction} is better. The score is compared with the competition's leaderboard; medals go to the \
best entries. The test labels are not available to you: hold out data or cross-validate to judge your own work.

Rules:
- Predictions come from a model that you trained on the given data. Do not label test rows by hand.
- Use the files given here only: no other copy of the data, no solution of somebody else.
- There is no internet access. Keep scratch files in `working/`.
- Where the description below says otherwise, these rules hold.

# {name}

{description}
"""


def prompt(competition: Competition, submission: str) -> str:
    """The rules of the benchmark, then the competition's own description."""
    others = sorted(path.name for path in competition.public.iterdir() if path.name != "description.md")
    return RULES.format(
        files="\n".join(f"- `input/{name}`" for name in others),
        submission=submission,
        metric=competition.config.grader.name,
        direction="Lower" if competition.thresholds.lower_is_better else "Higher",
        name=competition.config.name,
        description=competition.description.strip(),
    )
