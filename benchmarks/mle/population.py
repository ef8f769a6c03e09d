"""The declared population of the sample leaderboards: pipelines as people hand them in, from a constant to ensembles.

An entry is a model, a preparation of the columns and a share of the training rows. The names of the entries are the
names of the teams, so each line of a leaderboard says how it was made, and can be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

Make = Callable[[], Any]


@dataclass(frozen=True)
class Entry:
    """One team: `model` and `preparation` make fresh estimators, `share` of the training rows is used."""

    team: str
    model: Make
    preparation: Make
    share: float = 1.0


def population(metric: str, pixels: bool = False) -> list[Entry]:
    """The entries of a competition: a constant, every third model with the naive preparation, also on little data,
    and every model with every other preparation."""
    (naive, crude), *others = (PIXELS if pixels else COLUMNS).items()
    models = REGRESSORS.get(metric, CLASSIFIERS)
    entries = [Entry("constant", CONSTANTS[models is not CLASSIFIERS], crude)]
    for name, model in list(models.items())[::3]:
        entries.append(Entry(f"{name} | {naive}", model, crude))
        entries.append(Entry(f"{name} | {naive} | 15% of rows", model, crude, 0.15))
    return entries + [Entry(f"{name} | {how}", model, make) for name, model in models.items() for how, make in others]


def predictions(entry: Entry, metric: str, train: pd.DataFrame, test: pd.DataFrame, target: str) -> Any:
    """Fit an entry and predict the test rows, in the form that the metric asks for."""
    rows = train.iloc[: max(1, int(entry.share * len(train)))]
    fitted = make_pipeline(entry.preparation(), entry.model()).fit(rows.drop(columns=["id", target]), rows[target])
    features = test.drop(columns="id")
    if metric == "auc-roc":
        if hasattr(fitted, "predict_proba"):
            return fitted.predict_proba(features)[:, 1]
        return 1 / (1 + np.exp(-fitted.decision_function(features)))
    predicted = fitted.predict(features)
    if metric == "rmsle":
        return np.clip(predicted, 0, None)
    if metric == "quadratic-weighted-kappa":
        return np.clip(np.rint(predicted), train[target].min(), train[target].max()).astype(int)
    return predicted


def _columns(numbers: Any, texts: Any) -> Make:
    """A preparation: one pipeline for columns of numbers, one for columns of text ("drop" leaves them out)."""

    def is_number(table: pd.DataFrame) -> list[str]:
        return [name for name in table.columns if pd.api.types.is_numeric_dtype(table[name])]

    def is_text(table: pd.DataFrame) -> list[str]:
        return [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]

    return lambda: ColumnTransformer(
        [("numbers", numbers(), is_number), ("texts", texts() if callable(texts) else texts, is_text)]
    )


def _median(*steps: Callable[[], Any]) -> Callable[[], Pipeline]:
    return lambda: make_pipeline(SimpleImputer(strategy="median"), *(step() for step in steps))


def _ranks() -> QuantileTransformer:
    return QuantileTransformer(n_quantiles=100, output_distribution="normal")


def _one_hot() -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="ignore", sparse_output=False)


def _ordinal() -> OrdinalEncoder:
    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)


def _products() -> PolynomialFeatures:
    return PolynomialFeatures(2, include_bias=False)


def _log_ratios(table: Any) -> Any:
    """The logarithms of the columns (signed, of 0.5 + size) and all their differences."""
    values = np.asarray(table, dtype=float)
    logs = np.sign(values) * np.log(0.5 + abs(values))
    first, second = np.triu_indices(logs.shape[1], k=1)
    return np.hstack([logs, logs[:, first] - logs[:, second]])


def _smoothed(images: Any) -> Any:
    """Each pixel averaged with its neighbours, the pixel itself counting double."""
    padded = np.pad(np.asarray(images, dtype=float).reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    sides = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return (2 * padded[:, 1:-1, 1:-1] + sides).reshape(-1, 64)


COLUMNS: Mapping[str, Make] = {
    "numbers only, gaps 0": _columns(lambda: SimpleImputer(strategy="constant", fill_value=0), "drop"),
    "median, ordinal": _columns(_median(), _ordinal),
    "scaled, one-hot": _columns(_median(StandardScaler), _one_hot),
    "normal scores, one-hot": _columns(_median(_ranks), _one_hot),
    "scaled, products, one-hot": _columns(_median(StandardScaler, _products, StandardScaler), _one_hot),
    "splines, products, one-hot": _columns(
        lambda: make_pipeline(
            SimpleImputer(strategy="median"),
            StandardScaler(),
            FeatureUnion([("splines", SplineTransformer(6, extrapolation="linear")), ("products", _products())]),
        ),
        _one_hot,
    ),
    "log ratios, one-hot": _columns(_median(lambda: FunctionTransformer(_log_ratios), StandardScaler), _one_hot),
}

PIXELS: Mapping[str, Make] = {
    "one pixel in three": lambda: ColumnTransformer([("kept", "passthrough", list(range(0, 64, 3)))]),
    "raw": lambda: "passthrough",
    "scaled": StandardScaler,
    "unit length": Normalizer,
    "smoothed, unit length": lambda: make_pipeline(FunctionTransformer(_smoothed), Normalizer(), StandardScaler()),
    "smoothed, unit length, 25 components": lambda: make_pipeline(
        FunctionTransformer(_smoothed), Normalizer(), PCA(25, random_state=0), StandardScaler()
    ),
}

CLASSIFIERS: Mapping[str, Make] = {
    "naive Bayes": GaussianNB,
    "tree, 3 levels": lambda: DecisionTreeClassifier(max_depth=3, random_state=0),
    "tree": lambda: DecisionTreeClassifier(random_state=0),
    "1 neighbour": lambda: KNeighborsClassifier(1),
    "15 neighbours": lambda: KNeighborsClassifier(15),
    "logistic, C 0.01": lambda: LogisticRegression(C=0.01, max_iter=300),
    "logistic": lambda: LogisticRegression(max_iter=300),
    "logistic, balanced": lambda: LogisticRegression(class_weight="balanced", max_iter=300),
    "SVM, C 0.3": lambda: SVC(C=0.3),
    "SVM": SVC,
    "SVM, C 10": lambda: SVC(C=10),
    "SVM, C 10, balanced": lambda: SVC(C=10, class_weight="balanced"),
    "forest of 20": lambda: RandomForestClassifier(20, random_state=0),
    "forest of 150": lambda: RandomForestClassifier(150, random_state=0),
    "forest of 150, balanced": lambda: RandomForestClassifier(
        150, min_samples_leaf=3, class_weight="balanced", random_state=0
    ),
    "extra trees of 150": lambda: ExtraTreesClassifier(150, random_state=0),
    "boosting, 30 stumps": lambda: GradientBoostingClassifier(n_estimators=30, max_depth=1, random_state=0),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=60, random_state=0),
    "boosting, slow": lambda: GradientBoostingClassifier(
        n_estimators=120, learning_rate=0.06, subsample=0.6, max_features=0.4, random_state=0
    ),
    "boosting, patient": lambda: GradientBoostingClassifier(
        n_estimators=200, learning_rate=0.04, max_depth=4, subsample=0.5, max_features=0.2, random_state=0
    ),
    "histogram boosting": lambda: HistGradientBoostingClassifier(max_iter=60, random_state=0),
    "histogram boosting, balanced": lambda: HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=12, l2_regularization=1.0, class_weight="balanced", random_state=0
    ),
    "vote of logistic and forest": lambda: VotingClassifier(
        [("a", LogisticRegression(max_iter=300)), ("b", RandomForestClassifier(100, random_state=0))], voting="soft"
    ),
    "vote of boosting, forest and neighbours": lambda: VotingClassifier(
        [
            ("a", HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=12, random_state=0)),
            ("b", ExtraTreesClassifier(100, random_state=0)),
            ("c", KNeighborsClassifier(15)),
        ],
        voting="soft",
    ),
}

PLAIN_REGRESSORS: Mapping[str, Make] = {
    "tree, 3 levels": lambda: DecisionTreeRegressor(max_depth=3, random_state=0),
    "tree": lambda: DecisionTreeRegressor(random_state=0),
    "1 neighbour": lambda: KNeighborsRegressor(1),
    "15 neighbours": lambda: KNeighborsRegressor(15),
    "ridge, 1000": lambda: Ridge(1000),
    "ridge": Ridge,
    "SVM": lambda: SVR(C=1),
    "SVM, C 100": lambda: SVR(C=100),
    "forest of 20": lambda: RandomForestRegressor(20, random_state=0),
    "forest of 150": lambda: RandomForestRegressor(150, random_state=0),
    "extra trees of 150": lambda: ExtraTreesRegressor(150, random_state=0),
    "boosting, 30 stumps": lambda: GradientBoostingRegressor(n_estimators=30, max_depth=1, random_state=0),
    "boosting": lambda: GradientBoostingRegressor(random_state=0),
    "boosting, slow": lambda: GradientBoostingRegressor(
        n_estimators=300, learning_rate=0.05, max_depth=4, subsample=0.6, max_features=0.5, random_state=0
    ),
    "boosting, patient": lambda: GradientBoostingRegressor(
        n_estimators=600, learning_rate=0.03, max_depth=5, subsample=0.5, max_features=0.25, random_state=0
    ),
    "histogram boosting": lambda: HistGradientBoostingRegressor(random_state=0),
    "histogram boosting, slow": lambda: HistGradientBoostingRegressor(
        max_iter=250, learning_rate=0.05, max_leaf_nodes=8, l2_regularization=1.0, random_state=0
    ),
    "vote of ridge and forest": lambda: VotingRegressor(
        [("a", Ridge()), ("b", RandomForestRegressor(100, random_state=0))]
    ),
    "vote of boostings and trees": lambda: VotingRegressor(
        [
            ("a", GradientBoostingRegressor(n_estimators=200, subsample=0.6, max_features=0.5, random_state=0)),
            ("b", HistGradientBoostingRegressor(max_leaf_nodes=12, random_state=0)),
            ("c", ExtraTreesRegressor(100, random_state=0)),
        ]
    ),
}


def _on_log(model: Make) -> Make:
    return lambda: TransformedTargetRegressor(model(), func=np.log1p, inverse_func=np.expm1)


def _chosen(names: str, models: Mapping[str, Make]) -> dict[str, Make]:
    return {name: models[name] for name in names.split("; ")}


UNLOGGED = "tree; 15 neighbours; ridge; forest of 150; extra trees of 150; boosting; histogram boosting"
LOG_REGRESSORS = {f"{name}, log target": _on_log(model) for name, model in PLAIN_REGRESSORS.items()}
GRADE_CLASSIFIERS = _chosen("logistic; SVM, C 10; forest of 150; extra trees of 150; boosting", CLASSIFIERS)

REGRESSORS: Mapping[str, Mapping[str, Make]] = {
    "rmse": {**PLAIN_REGRESSORS, "ridge, 10": lambda: Ridge(10), "5 neighbours": lambda: KNeighborsRegressor(5)},
    "rmsle": {**_chosen(UNLOGGED, PLAIN_REGRESSORS), **LOG_REGRESSORS},
    "quadratic-weighted-kappa": {**PLAIN_REGRESSORS, **GRADE_CLASSIFIERS},
}
"""Metric -> the models of its population; other metrics have the classifiers."""

CONSTANTS: Mapping[bool, Make] = {True: DummyRegressor, False: lambda: DummyClassifier(strategy="prior")}
