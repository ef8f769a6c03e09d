import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from client import Client


@pytest.fixture
def client():
    """Somebody who has just signed up."""
    return Client().sign_up()
