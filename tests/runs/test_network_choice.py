"""What a run decides about the network of its agents' worlds, and what it leaves to the graders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from trellis.environments.environment import EnvironmentSpec
from trellis.runs.errors import UsageError
from trellis.runs.experiment import EnvironmentChoice, make
from trellis.runs.grading import EpisodeGrader
from trellis.scaffolds.episode import Episode

LISTED = EnvironmentSpec(allow=("pkg.test:443",))


@pytest.mark.parametrize(
    ("choice", "task", "network", "allow"),
    [
        ({}, LISTED, "none", ("pkg.test:443",)),
        ({"allow": ["a.example:1"]}, LISTED, "none", ("a.example:1",)),
        ({"allow": "a.example:1, b.example:2"}, LISTED, "none", ("a.example:1", "b.example:2")),
        ({"allow": []}, LISTED, "none", ()),
        ({"network": "full"}, LISTED, "full", ()),
        ({"network": "none"}, LISTED, "none", ("pkg.test:443",)),
        ({"allow": ["a.example:1"]}, EnvironmentSpec(network="full"), "none", ("a.example:1",)),
    ],
)
def test_what_the_run_says_comes_before_what_the_task_says(
    choice: dict[str, Any], task: EnvironmentSpec, network: str, allow: tuple[str, ...]
) -> None:
    decided = EnvironmentChoice(**choice).of(task)
    assert (decided.network, decided.allow) == (network, allow)


def test_a_network_for_everything_makes_a_list_for_set_up_needless() -> None:
    setup = EnvironmentSpec(setup_allow=("pkg.test:443",))
    assert EnvironmentChoice(network="full").of(setup) == EnvironmentSpec(network="full")
    sealed_setup = EnvironmentSpec(setup_network="none", setup_allow=("pkg.test:443",))
    assert EnvironmentChoice(network="full").of(sealed_setup) == replace(sealed_setup, network="full")


@pytest.mark.parametrize(
    ("choice", "complaint"),
    [
        ({"allow": ["pkg.test"]}, 'environment: allow: "pkg.test" has no port; write "host:port", for example'),
        ({"allow": ["a.example:1"], "network": "full"}, 'environment: allow: network = "full" reaches everything'),
        ({"allow": ["a.example:1"], "kind": "local"}, "environment: allow: a local world cannot keep to it; take"),
    ],
)
def test_what_cannot_be_is_one_clear_line(choice: dict[str, Any], complaint: str) -> None:
    settings = {"benchmarks": ["hle:sample"], "agents": [{"scaffold": "noop"}], "environment": choice}
    with pytest.raises(UsageError) as caught:
        make(settings, folder=Path())
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


async def test_the_agents_way_out_is_not_the_graders() -> None:
    graders = EnvironmentSpec(image="graders", setup_allow=("pkg.test:443",))
    started: list[EnvironmentSpec] = []

    async def start(spec: EnvironmentSpec, /, **_: object) -> Any:
        started.append(spec)

    for choice in (EnvironmentChoice(network="full"), EnvironmentChoice(allow=("pkg.test:443",))):
        await EpisodeGrader(cast(Episode, None), choice.of, "label", start).start(graders)
    assert started == [graders] * 2
