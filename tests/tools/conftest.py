"""Tools are tried in real worlds: in `local`, and in `sandbox` where this machine allows one."""

from collections.abc import AsyncIterator

import pytest

from trellis.environments.environment import Environment, EnvironmentSpec, EnvironmentUnavailable


@pytest.fixture(params=["local", "sandbox"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[Environment]:
    try:
        environment = await EnvironmentSpec(kind=request.param).start(label="tests/tools")
    except EnvironmentUnavailable as reason:
        pytest.skip(f"no {request.param}: {reason}")
    yield environment
    await environment.close()
