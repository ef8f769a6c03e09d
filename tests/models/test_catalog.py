from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from trellis.models.catalog import close, describe, load
from trellis.models.messages import Message
from trellis.models.model import GenerateConfig, ModelRequestError, Reply, ToolSpec
from trellis.models.options import construct

OFFLINE = [name for name, _ in describe() if name.startswith("offline/")]


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)


@pytest.mark.parametrize("name", OFFLINE)
async def test_offline_models_load_without_key_or_option(name: str) -> None:
    model = load(name, {})
    assert model.name == name
    await close(model)


def test_everything_is_described_in_one_line() -> None:
    assert {name for name, _ in describe()} >= {"openai/*", "openai-compatible/*", "anthropic/*", *OFFLINE}
    assert all(text and "\n" not in text for _, text in describe())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("offline/tabluar", "did you mean offline/tabular?"),
        ("ofline/repair", "did you mean offline/repair?"),
        ("opnai/gpt-5", "did you mean openai/gpt-5?"),
        ("antropic/claude-opus-5", "did you mean anthropic/claude-opus-5?"),
        ("openai/", "models are openai/MODEL"),
        ("openai/*", "models are openai/MODEL"),
        ("gpt-5", "models are openai/MODEL"),
        ("", "models are openai/MODEL"),
    ],
)
def test_wrong_names_get_one_helpful_line(name: str, hint: str) -> None:
    with pytest.raises(ValueError) as raised:
        load(name, {})
    line = str(raised.value)
    assert line.startswith(f"unknown model {name!r}: ")
    assert hint in line
    assert "\n" not in line


@pytest.mark.parametrize(("name", "env"), [("openai/gpt-5", "OPENAI_API_KEY"), ("anthropic/m", "ANTHROPIC_API_KEY")])
def test_missing_key_is_said_before_a_run_starts(name: str, env: str) -> None:
    with pytest.raises(ModelRequestError, match=f"{name}: no key; set the environment variable {env}"):
        load(name, {})
    with pytest.raises(ModelRequestError, match="environment variable MY_KEY"):
        load(name, {"api_key_env": "MY_KEY"})


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("openai/gpt-5", {"temprature": 1}, "openai/gpt-5 has no option temprature; it has: api_key_env, base_url, "),
        ("openai/gpt-5", {"timeout_s": "soon"}, "openai/gpt-5: timeout_s: "),
        ("openai/gpt-5", {"timeout_s": -1}, "openai/gpt-5: timeout_s: "),
        ("anthropic/m", {"thinking": "a lot"}, "anthropic/m: thinking"),
        ("openai-compatible/m", {}, "openai-compatible/m: base_url: Field required"),
        ("openai-compatible/m", {"base_url": "localhost:8000"}, "openai-compatible/m: base_url: no address of a serv"),
        ("openai/gpt-5", {"base_url": "http://"}, "openai/gpt-5: base_url: no address of a server; give one such as"),
        ("openai/gpt-5", {"prices": "/none.json"}, "openai/gpt-5: prices: prices /none.json: No such file"),
    ],
)
def test_wrong_options_get_one_line(name: str, options: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError) as raised:
        load(name, options)
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)


class Told:
    """A model with options of its own, as the offline policies have."""

    def __init__(self, *, rate: float = 0.25, words: tuple[str, ...] = (), loud: bool = False) -> None:
        self.name, self.rate, self.words, self.loud = "told", rate, words, loud

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        raise NotImplementedError


def test_options_of_a_signature_are_read_from_text_and_checked() -> None:
    told = construct(Told, {"rate": "0.5", "loud": "true"}, "told")
    assert (told.rate, told.words, told.loud) == (0.5, (), True)
    with pytest.raises(ValueError, match="told has no option rat; it has: loud, rate, words"):
        construct(Told, {"rat": 1}, "told")
    with pytest.raises(ValueError, match="told: rate: "):
        construct(Told, {"rate": "often"}, "told")


def test_the_catalog_imports_no_sdk() -> None:
    """`trellis --help` must not pay for what it does not use."""
    heavy = ("openai", "anthropic", "pydantic", "tiktoken", "tenacity")
    script = f"import sys, trellis.models.catalog as c; c.describe(); print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


def test_loading_a_client_imports_no_sdk() -> None:
    script = (
        "import sys, os; os.environ['OPENAI_API_KEY'] = os.environ['ANTHROPIC_API_KEY'] = 'k'\n"
        "from trellis.models.catalog import load\n"
        "load('openai/gpt-5', {}), load('anthropic/m', {}), load('openai-compatible/m', {'base_url': 'http://h'})\n"
        "print(*[m for m in ('openai', 'anthropic', 'tiktoken') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
