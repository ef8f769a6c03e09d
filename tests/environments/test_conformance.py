"""The conformance suite over the three kinds of environment."""

from __future__ import annotations

import pytest

from trellis.environments.conformance import EnvironmentConformance
from trellis.environments.environment import EnvironmentSpec


class TestLocal(EnvironmentConformance):
    spec = EnvironmentSpec(kind="local")


@pytest.mark.usefixtures("sandbox")
class TestSandbox(EnvironmentConformance):
    spec = EnvironmentSpec(kind="sandbox")


@pytest.mark.docker
@pytest.mark.usefixtures("docker")
class TestDocker(EnvironmentConformance):
    spec = EnvironmentSpec(kind="docker")
