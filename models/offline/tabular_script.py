"""From a design to a script: a scikit-learn pipeline with cross-validation and a submission."""

from __future__ import annotations

from trellis.models.offline.tabular_designs import SCALED, WEIGHTED, Design, Value, write_design
from trellis.models.offline.tabular_reading import Reading

IMPORTS = {
    "os": "import os",
    "np": "import numpy as np",
    "pd": "import pandas as pd",
    "ColumnTransformer": "from sklearn.compose import ColumnTransformer",
    "TransformedTargetRegressor": "from sklearn.compose import TransformedTargetRegressor",
    "PCA": "from sklearn.decomposition import PCA",
    "ExtraTreesClassifier": "from sklearn.ensemble import ExtraTreesClassifier",
    "ExtraTreesRegressor": "from sklearn.ensemble import ExtraTreesRegressor",
    "HistGradientBoostingClassifier": "from sklearn.ensemble import HistGradientBoostingClassifier",
    "HistGradientBoostingRegressor": "from sklearn.ensemble import HistGradientBoostingRegressor",
    "RandomForestClassifier": "from sklearn.ensemble import RandomForestClassifier",
    "RandomForestRegressor": "from sklearn.ensemble import RandomForestRegressor",
    "VotingClassifier": "from sklearn.ensemble import VotingClassifier",
    "VotingRegressor": "from sklearn.ensemble import VotingRegressor",
    "SelectPercentile": "from sklearn.feature_selection import SelectPercentile",
    "f_classif": "from sklearn.feature_selection import f_classif",
    "f_regression": "from sklearn.feature_selection import f_regression",
    "SimpleImputer": "from sklearn.impute import SimpleImputer",
    "LogisticRegression": "from sklearn.linear_model import LogisticRegression",
    "Ridge": "from sklearn.linear_model import Ridge",
    "KFold": "from sklearn.model_selection import KFold",
    "StratifiedKFold": "from sklearn.model_selection import StratifiedKFold",
    "KNeighborsClassifier": "from sklearn.neighbors import KNeighborsClassifier",
    "KNeighborsRegressor": "from sklearn.neighbors import KNeighborsRegressor",
    "make_pipeline": "from sklearn.pipeline import make_pipeline",
    "OneHotEncoder": "from sklearn.preprocessing import OneHotEncoder",
    "OrdinalEncoder": "from sklearn.preprocessing import OrdinalEncoder",
    "PolynomialFeatures": "from sklearn.preprocessing import PolynomialFeatures",
    "QuantileTransformer": "from sklearn.preprocessing import QuantileTransformer",
    "RobustScaler": "from sklearn.preprocessing import RobustScaler",
    "StandardScaler": "from sklearn.preprocessing import StandardScaler",
    "SVC": "from sklearn.svm import SVC",
    "SVR": "from sklearn.svm import SVR",
    "threadpool_limits": "from threadpoolctl import threadpool_limits",
}
"""Where the names come from that a script may use; functions of sklearn.metrics come on top."""

CLASSES = {
    "linear": ("LogisticRegression", "Ridge"),
    "knn": ("KNeighborsClassifier", "KNeighborsRegressor"),
    "svm": ("SVC", "SVR"),
    "forest": ("RandomForestClassifier", "RandomForestRegressor"),
    "extra_trees": ("ExtraTreesClassifier", "ExtraTreesRegressor"),
    "boosting": ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"),
}

_SCALERS = {
    "standard": "StandardScaler()",
    "robust": "RobustScaler()",
    "quantile": 'QuantileTransformer(n_quantiles=100, output_distribution="normal")',
}
_ENCODERS = {
    "onehot": 'OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5, sparse_output=False)',
    "ordinal": 'OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)',
}


def import_of(name: str, reading: Reading) -> str | None:
    """The line that imports a name."""
    if name == reading.metric.function:
        return f"from sklearn.metrics import {name}"
    return IMPORTS.get(name)


def write_script(design: Design, reading: Reading, folds: int) -> str:
    """The script of a design, as a careful coder would write it."""
    body = "\n".join(
        [_data(reading), _build(design, reading), _validation(design, reading, folds), _submission(reading)]
    )
    names = [name for name in (*IMPORTS, reading.metric.function) if _uses(body, name)]
    lines = sorted({line for name in names if (line := import_of(name, reading))}, key=_import_order)
    return f'"""{write_design(design)}"""\n\n' + "\n".join(lines) + "\n\n" + body


def _uses(body: str, name: str) -> bool:
    return any(f"{name}{after}" in body for after in "(.,")


def _import_order(line: str) -> tuple[bool, str]:
    return line.startswith("from"), line


def _data(reading: Reading) -> str:
    identifier = f'"{reading.id_column}"' if reading.id_column else "sample.columns[0]"
    target = f'"{reading.target}"' if reading.target else "next(c for c in train.columns if c not in test.columns)"
    return f'''\
threadpool_limits(1)  # on small data, more threads cost more than they give

train = pd.read_csv("{reading.path("train")}")
test = pd.read_csv("{reading.path("test")}")
sample = pd.read_csv("{reading.path("sample")}")

ID = {identifier}
TARGET = {target}

y = train[TARGET].to_numpy()
X = train.drop(columns=[TARGET, ID])
X_test = test[X.columns]
categorical = [c for c in X.columns if not pd.api.types.is_numeric_dtype(X[c])]
numeric = [c for c in X.columns if c not in categorical]


def clean(frame):
    frame = frame.copy()
    frame[numeric] = frame[numeric].astype(float)
    for column in categorical:
        frame[column] = frame[column].astype(object).where(frame[column].notna(), "missing").astype(str)
    return frame


X, X_test = clean(X), clean(X_test)

'''


def _build(design: Design, reading: Reading) -> str:
    numeric = [_imputer(str(design.get("impute", "median")))]
    scale, features = str(design.get("scale", "none")), str(design.get("features", "plain"))
    if scale in _SCALERS:
        numeric.append(_SCALERS[scale])
    if features == "products":
        numeric.append("PolynomialFeatures(degree=2, include_bias=False)")
        if design["model"] in SCALED:
            numeric.append("StandardScaler()")
    steps = ["prepare"]
    regression = _regresses(design, reading)
    if features == "components":
        steps.append("PCA(n_components=0.95, random_state=0)")
    elif features == "selected":
        score = "f_regression" if regression else "f_classif"
        steps.append(f"SelectPercentile({score}, percentile=60)")
    final = _model(str(design["model"]), design, regression)
    partner = str(design.get("blend", "none"))
    if partner in CLASSES:
        other = _model(partner, {}, regression)
        if partner in SCALED and scale == "none":
            other = f"make_pipeline(StandardScaler(), {other})"
        kind = "VotingRegressor" if regression else "VotingClassifier"
        soft = "" if regression else ', voting="soft"'
        final = f'{kind}([("first", {final}), ("second", {other})]{soft})'
    pipeline = f"make_pipeline({', '.join([*steps, final])})"
    if design.get("target") == "log":
        pipeline = f"TransformedTargetRegressor({pipeline}, func=np.log1p, inverse_func=np.expm1)"
    encoder = _ENCODERS[str(design.get("encode", "onehot"))]
    return f"""\
def build():
    prepare = ColumnTransformer(
        [
            ("numeric", make_pipeline({", ".join(numeric)}), numeric),
            ("categorical", {encoder}, categorical),
        ]
    )
    return {pipeline}


{_predict(design, reading)}

"""


def _imputer(strategy: str) -> str:
    if strategy == "median with flags":
        return 'SimpleImputer(strategy="median", add_indicator=True)'
    return f'SimpleImputer(strategy="{strategy}")'


def _regresses(design: Design, reading: Reading) -> bool:
    return reading.metric.kind == "value" or design.get("labels") == "rounded"


def _model(model: str, design: Design, regression: bool) -> str:
    """The constructor call; a hyperparameter that the design leaves open gets a moderate value."""
    name = CLASSES[model][regression]
    given = {key: value for key, value in design.items() if key in _ARGUMENTS.get(model, ())}
    if model == "linear":
        strength = design.get("strength", 1.0)
        arguments: dict[str, Value] = {"alpha": strength} if regression else {"C": strength, "max_iter": 500}
    else:
        arguments = {**_MODERATE[model], **given}
    if not regression and model in WEIGHTED and design.get("class_weight") == "balanced":
        arguments["class_weight"] = "balanced"
    if model in ("forest", "extra_trees", "boosting"):
        arguments["random_state"] = 0
    shown = (f'{key}="{value}"' if isinstance(value, str) else f"{key}={value}" for key, value in arguments.items())
    return f"{name}({', '.join(shown)})"


_MODERATE: dict[str, dict[str, Value]] = {
    "knn": {"n_neighbors": 15, "weights": "distance"},
    "svm": {"C": 1.0},
    "forest": {"n_estimators": 40, "min_samples_leaf": 2},
    "extra_trees": {"n_estimators": 40, "min_samples_leaf": 2},
    "boosting": {"learning_rate": 0.08, "max_iter": 60, "max_leaf_nodes": 8},
}
_ARGUMENTS = {
    "knn": ("n_neighbors", "weights"),
    "svm": ("C", "gamma"),
    "forest": ("n_estimators", "max_depth", "min_samples_leaf", "max_features"),
    "extra_trees": ("n_estimators", "max_depth", "min_samples_leaf", "max_features"),
    "boosting": ("learning_rate", "max_iter", "max_leaf_nodes", "l2_regularization"),
}


def _predict(design: Design, reading: Reading) -> str:
    if reading.metric.kind == "probability":
        answer = "model.predict_proba(rows)" if reading.many_outputs else "model.predict_proba(rows)[:, 1]"
    elif design.get("labels") == "rounded":
        answer = "np.clip(np.rint(model.predict(rows)), y.min(), y.max()).astype(y.dtype)"
    elif reading.metric.name == "RMSLE":
        answer = "np.clip(model.predict(rows), 0, None)"
    else:
        answer = "model.predict(rows)"
    return f"def predict(model, rows):\n    return {answer}"


def _validation(design: Design, reading: Reading, folds: int) -> str:
    splitter = "KFold" if reading.metric.kind == "value" else "StratifiedKFold"
    if reading.metric.kind == "probability":
        oof = "np.zeros((len(y), len(np.unique(y))))" if reading.many_outputs else "np.zeros(len(y))"
    else:
        oof = "np.zeros(len(y))" if reading.metric.kind == "value" else "np.empty(len(y), dtype=y.dtype)"
    return f"""\
oof = {oof}
for fit, held_out in {splitter}({folds}, shuffle=True, random_state=0).split(X, y):
    model = build().fit(X.iloc[fit], y[fit])
    oof[held_out] = predict(model, X.iloc[held_out])
score = {reading.metric.expression}
print(f"Validation metric: {{score:.6f}}")

model = build().fit(X, y)
predictions = predict(model, X_test)
"""


def _submission(reading: Reading) -> str:
    folder = reading.submission.rpartition("/")[0]
    make = f'os.makedirs("{folder}", exist_ok=True)\n' if folder else ""
    if reading.many_outputs:
        table = """\
classes = [str(c) for c in model.classes_]
order = [next(i for i, c in enumerate(classes) if name == c or name.endswith("_" + c)) for name in sample.columns[1:]]
submission = pd.DataFrame(predictions[:, order], columns=sample.columns[1:])
submission.insert(0, ID, test[ID])
"""
    else:
        output = f'"{reading.outputs[0]}"' if reading.outputs else "sample.columns[1]"
        table = f"submission = pd.DataFrame({{ID: test[ID], {output}: predictions}})\n"
    return f'''\
{table}{make}submission.to_csv("{reading.submission}", index=False)
print("Submission:", submission.shape)
'''
