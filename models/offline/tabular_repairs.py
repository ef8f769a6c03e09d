"""How `offline/tabular` repairs a script: from the error that was shown and the script itself, nothing else."""

from __future__ import annotations

import builtins
import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from trellis.models.offline.tabular_reading import Reading
from trellis.models.offline.tabular_script import IMPORTS, import_of

_KNOWN_METHODS = (
    "drop",
    "to_csv",
    "astype",
    "copy",
    "fit",
    "predict",
    "predict_proba",
    "read_csv",
    "makedirs",
    "split",
)
_KNOWN_PARAMETERS = re.findall(
    r"\w+",
    "n_estimators min_samples_leaf max_depth max_features n_neighbors weights learning_rate max_iter max_leaf_nodes "
    "l2_regularization class_weight random_state alpha strategy gamma C",
)


@dataclass(frozen=True, slots=True)
class Repair:
    code: str
    cause: str


def repair(code: str, output: str, reading: Reading) -> Repair | None:
    """The script with the shown error dealt with; None if nothing is known to do about it."""
    error = last_error(output)
    for pattern, mend in _RULES:
        if (found := re.search(pattern, error)) and (new := mend(code, found, reading)) not in ("", code):
            return Repair(new, error)
    return _unexplained(code, output, reading)


def last_error(output: str) -> str:
    """The last line that names an exception, with what follows it; empty if none does."""
    found = list(re.finditer(r"^[\w.]*(?:Error|Exception|Interrupt|Warning)\b.*", output, re.MULTILINE))
    return output[found[-1].start() :].strip() if found else ""


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that resembles `word` most, case aside; empty if none does."""
    words = {name.lower(): name for name in known if name != word}
    near = difflib.get_close_matches(word.lower(), words, n=1, cutoff=0.55)
    return words[near[0]] if near else ""


def _name(code: str, found: re.Match[str], reading: Reading) -> str:
    """An unknown name: an import is missing, or a variable is misspelt."""
    name = found[1]
    if line := import_of(name, reading):
        return re.sub(r"^(?=(?:from \S+ )?import )", f"{line}\n", code, count=1, flags=re.MULTILINE)
    defined = set(re.findall(r"^[ ]*(?:def )?(\w+)(?:, \w+)*(?: =|\()", code, re.MULTILINE))
    defined |= set(re.findall(r"for (\w+),", code)) | set(re.findall(r", (\w+) in ", code))
    right = closest(name, defined - set(dir(builtins)))
    return re.sub(rf"\b{re.escape(name)}\b", right, code) if right else ""


def _imported(code: str, found: re.Match[str], reading: Reading) -> str:
    right = closest(found[1], (*IMPORTS, reading.metric.function))
    return re.sub(rf"import {re.escape(found[1])}\b", f"import {right}", code) if right else ""


def _method(code: str, found: re.Match[str], reading: Reading) -> str:
    right = closest(found[1], _KNOWN_METHODS)
    return re.sub(rf"\.{re.escape(found[1])}\(", f".{right}(", code) if right else ""


def _parameter(code: str, found: re.Match[str], reading: Reading) -> str:
    right = closest(found[1], _KNOWN_PARAMETERS)
    return re.sub(rf"\b{re.escape(found[1])}=", f"{right}=", code) if right else ""


def _column(code: str, found: re.Match[str], reading: Reading) -> str:
    """A column that is not there: the known one that is most like it, or, for want of any, what the tables tell."""
    wrong = found[1]
    right = closest(wrong, reading.known_columns)
    if right:
        return code.replace(f'"{wrong}"', f'"{right}"')
    code = code.replace(f'TARGET = "{wrong}"', "TARGET = next(c for c in train.columns if c not in test.columns)")
    return code.replace(f'ID = "{wrong}"', "ID = sample.columns[0]")


def _file(code: str, found: re.Match[str], reading: Reading) -> str:
    wrong = found[1]
    paths = {reading.path(role).rpartition("/")[2]: reading.path(role) for role in ("train", "test", "sample")}
    right = paths.get(wrong.rpartition("/")[2]) or paths.get(closest(wrong.rpartition("/")[2], paths), "")
    return code.replace(f'"{wrong}"', f'"{right}"') if right else ""


def _folder(code: str, found: re.Match[str], reading: Reading) -> str:
    made = re.sub(r"^(?=submission\.to_csv)", f'os.makedirs("{found[1]}", exist_ok=True)\n', code, flags=re.MULTILINE)
    return (
        made
        if re.search(r"^import os$", made, re.MULTILINE)
        else made.replace("import numpy", "import os\n\nimport numpy", 1)
    )


def _missing_values(code: str, found: re.Match[str], reading: Reading) -> str:
    filled = code.replace('make_pipeline("passthrough"', 'make_pipeline(SimpleImputer(strategy="median")')
    return _with_import(filled, "SimpleImputer", reading)


def _text(code: str, found: re.Match[str], reading: Reading) -> str:
    encoder = 'OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5, sparse_output=False)'
    encoded = code.replace('("categorical", "passthrough", categorical)', f'("categorical", {encoder}, categorical)')
    return _with_import(encoded, "OneHotEncoder", reading)


def _shape(code: str, found: re.Match[str], reading: Reading) -> str:
    """Predictions of another shape than the place for them."""
    if reading.metric.kind == "probability":
        if "predict_proba" not in code:
            column = "" if reading.many_outputs else "[:, 1]"
            return code.replace("return model.predict(rows)", f"return model.predict_proba(rows){column}")
        if not reading.many_outputs and "predict_proba(rows)[:, 1]" not in code:
            return code.replace("predict_proba(rows)", "predict_proba(rows)[:, 1]")
    return _rows(code, found, reading)


def _rows(code: str, found: re.Match[str], reading: Reading) -> str:
    """Predictions for the wrong table."""
    return code.replace("predictions = predict(model, X)", "predictions = predict(model, X_test)")


def _with_import(code: str, name: str, reading: Reading) -> str:
    line = import_of(name, reading)
    if not line or line in code:
        return code
    return re.sub(r"^(?=from sklearn)", f"{line}\n", code, count=1, flags=re.MULTILINE)


_RULES: Sequence[tuple[str, Callable[[str, re.Match[str], Reading], str]]] = (
    (r"NameError: name '(\w+)' is not defined", _name),
    (r"ImportError: cannot import name '(\w+)'", _imported),
    (r"unexpected keyword argument '(\w+)'", _parameter),
    (r"AttributeError: .* has no attribute '(\w+)'", _method),
    (r"FileNotFoundError: .*?'([^']+\.csv)'", _file),
    (r"OSError: Cannot save file into a non-existent directory: '([^']+)'", _folder),
    (r"KeyError: \"?\[?'([^']+)'", _column),
    (r"contains NaN|missing values", _missing_values),
    (r"could not convert string to float|Cannot use \w+ strategy with non-numeric data", _text),
    (r"[Ll]ength of values|array length|All arrays must be of the same length|different lengths", _rows),
    (r"shape mismatch|could not broadcast|too many indices|must be 1-?d|Per-column arrays|inhomogeneous|2 dim", _shape),
    (r"could not convert|invalid literal|dtype", _shape),
)


def _unexplained(code: str, output: str, reading: Reading) -> Repair | None:
    """No error was shown, and still the run was not accepted: look at what the script hands in."""
    if last_error(output):
        return None
    saved = re.search(r'to_csv\("([^"]+)"', code)
    if saved and saved[1] != reading.submission:
        fixed = code.replace(saved[0], f'to_csv("{reading.submission}"')
        return Repair(fixed, f"the predictions were saved to {saved[1]} instead of {reading.submission}")
    return None
