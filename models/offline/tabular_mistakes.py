"""The mistakes that `offline/tabular` makes. They are real: each changes the script, and nobody else knows which."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

from trellis.models.offline.tabular_reading import Reading

Mistake: TypeAlias = Callable[[str, Reading, Random], str]
"""Gives the script with the mistake in it, or the same script where it cannot be made."""


def make_mistake(code: str, reading: Reading, random: Random) -> str:
    """The script with one mistake, chosen among those that can be made in it."""
    spoiled = [new for mistake in MISTAKES if (new := mistake(code, reading, random)) != code]
    return random.choice(spoiled) if spoiled else code


def misspell(word: str, random: Random) -> str:
    """A word with two neighbouring letters swapped or one left out, inside the word."""
    at = random.randrange(1, len(word) - 1)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return swapped if swapped != word and random.random() < 0.5 else word[:at] + word[at + 1 :]


def _misspelt_import(code: str, reading: Reading, random: Random) -> str:
    name = random.choice(re.findall(r"^from sklearn\.\w+ import (\w+)$", code, re.MULTILINE))
    return code.replace(f"import {name}\n", f"import {misspell(name, random)}\n", 1)


def _forgotten_import(code: str, reading: Reading, random: Random) -> str:
    lines = re.findall(r"^(?:from \S+ )?import .*\n", code, re.MULTILINE)
    return code.replace(random.choice(lines), "", 1)


def _misspelt_method(code: str, reading: Reading, random: Random) -> str:
    method = random.choice(["drop", "to_csv", "astype", "copy", "fit", "predict"])
    return code.replace(f".{method}(", f".{misspell(method, random)}(", 1)


def _misspelt_parameter(code: str, reading: Reading, random: Random) -> str:
    names = re.findall(r"\b(n_estimators|min_samples_leaf|max_depth|n_neighbors|learning_rate|max_iter)=", code)
    if not names:
        return code
    name = random.choice(names)
    return re.sub(rf"\b{name}=", f"{name.removesuffix('s') if name.endswith('s') else misspell(name, random)}=", code)


def _wrong_column(code: str, reading: Reading, random: Random) -> str:
    name = random.choice(["TARGET", "ID"])
    return re.sub(
        rf'^{name} = "(\w+)"$',
        lambda match: f'{name} = "{random.choice([match[1].swapcase(), misspell(f"{match[1]}__", random)])}"',
        code,
        flags=re.MULTILINE,
    )


def _wrong_path(code: str, reading: Reading, random: Random) -> str:
    path = reading.path(random.choice(["train", "test", "sample"]))
    folder, _, name = path.rpartition("/")
    wrong = random.choice([name, f"data/{name}", f"../{path}"] if folder else [f"data/{name}", f"input/{name}"])
    return code.replace(f'read_csv("{path}")', f'read_csv("{wrong}")')


def _no_folder(code: str, reading: Reading, random: Random) -> str:
    return re.sub(r"^os\.makedirs\(.*\n", "", code, flags=re.MULTILINE)


def _wrong_submission_path(code: str, reading: Reading, random: Random) -> str:
    name = reading.submission.rpartition("/")[2]
    return code.replace(f'to_csv("{reading.submission}"', f'to_csv("{name}"')


def _no_imputation(code: str, reading: Reading, random: Random) -> str:
    """Trees take missing values as they are; it would be no mistake there."""
    if not reading.has_missing or not re.search(r"\b(?:LogisticRegression|Ridge|KNeighbors\w+|SV[CR])\(", code):
        return code
    return re.sub(r"make_pipeline\(SimpleImputer\([^)]*\)", 'make_pipeline("passthrough"', code)


def _no_encoding(code: str, reading: Reading, random: Random) -> str:
    changed = re.sub(
        r'\("categorical", \w+\([^()]*\), categorical\)', '("categorical", "passthrough", categorical)', code
    )
    return changed if reading.has_text else code


def _all_probabilities(code: str, reading: Reading, random: Random) -> str:
    return code.replace("predict_proba(rows)[:, 1]", "predict_proba(rows)")


def _labels_for_probabilities(code: str, reading: Reading, random: Random) -> str:
    """Where one column is asked for this goes unnoticed, and costs score."""
    return re.sub(r"model\.predict_proba\(rows\)(\[:, 1\])?", "model.predict(rows)", code)


def _predictions_for_train(code: str, reading: Reading, random: Random) -> str:
    return code.replace("predictions = predict(model, X_test)", "predictions = predict(model, X)")


def _misspelt_variable(code: str, reading: Reading, random: Random) -> str:
    name = random.choice(["X_test", "held_out", "predictions", "submission", "numeric"])
    places = [match.span() for match in re.finditer(rf'(?<!["\w/]){name}\b(?!["\w./-])', code)]
    if len(places) < 2:
        return code
    start, end = random.choice(places[1:])
    return code[:start] + name.replace("_", "") + ("s" if "_" not in name else "") + code[end:]


MISTAKES: Sequence[Mistake] = (
    _misspelt_import,
    _forgotten_import,
    _misspelt_method,
    _misspelt_parameter,
    _wrong_column,
    _wrong_path,
    _no_folder,
    _wrong_submission_path,
    _no_imputation,
    _no_encoding,
    _all_probabilities,
    _labels_for_probabilities,
    _predictions_for_train,
    _misspelt_variable,
)
