"""A reproduction made from a bug report, as a pytest file: this file's text, with the scenarios put at its end.

A scenario is a list of HTTP requests, and what the report expects of the last ones and has seen instead. The requests
go through the repository's own test client, a fixture with methods `get`, `post` and so on.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

FIXTURE: str = ""
SCENARIOS: list[dict[str, Any]] = []


def pytest_generate_tests(metafunc: Any) -> None:
    which = [i for i, scenario in enumerate(SCENARIOS) if scenario[metafunc.function.__name__.removeprefix("test_")]]
    metafunc.parametrize("number", which)


def test_expected(request: pytest.FixtureRequest, number: int) -> None:
    play(request, SCENARIOS[number], "expected")


def test_actual(request: pytest.FixtureRequest, number: int) -> None:
    play(request, SCENARIOS[number], "actual")


def play(request: pytest.FixtureRequest, scenario: dict[str, Any], what: str) -> None:
    client = request.getfixturevalue(FIXTURE)
    for step in scenario["steps"]:
        answer = send(client, step["method"], step["path"], step["body"])
        status = getattr(answer, "status_code", None) or answer.status
        if step["checked"]:
            check(status, answer, scenario[what])
        else:
            assert status == step["status"] if step["status"] else status < 400


def send(client: Any, method: str, path: str, body: Any) -> Any:
    call = getattr(client, method.lower())
    if body is None:
        return call(path)
    try:
        inspect.signature(call).bind(path, json=body)
    except TypeError:
        return call(path, body)
    return call(path, json=body)


def check(status: int, answer: Any, wanted: dict[str, Any]) -> None:
    assert wanted["status"] in (None, status)
    text = answer.text if isinstance(answer.text, str) else answer.get_data(as_text=True)
    for word in wanted["has"]:
        assert word in text
    for word in wanted["lacks"]:
        assert word not in text
    if wanted["json"]:
        data = json.loads(text)
        for fragment in wanted["json"]:
            assert holds(data, fragment), fragment


def holds(data: Any, fragment: dict[str, Any]) -> bool:
    """Is there, however deep, an object with all these members?"""
    if isinstance(data, dict):
        if all(key in data and data[key] == value for key, value in fragment.items()):
            return True
        return any(holds(inner, fragment) for inner in data.values())
    return isinstance(data, list) and any(holds(inner, fragment) for inner in data)
