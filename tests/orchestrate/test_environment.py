"""The environment of a local Ray."""

import subprocess
import sys

import pytest

SNIPPET = """
import os
from prism_ray.orchestrate.environment import prepare_for_local_ray
prepare_for_local_ray()
print(os.environ.get("RAY_AUTH_MODE"), len(os.environ.get("RAY_AUTH_TOKEN", "")))
"""


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "token 64"),
        ({"RAY_AUTH_MODE": "disabled"}, "disabled 0"),
        ({"RAY_AUTH_TOKEN_PATH": "token"}, "token 0"),
        ({"RAY_ADDRESS": "10.0.0.1:6379"}, "None 0"),
    ],
)
def test_local_ray_has_a_token_unless_the_user_chose(
    more: dict[str, str], expected: str, environment: dict[str, str]
) -> None:
    """Catches a local Ray open to the whole machine, and overriding what the user set on purpose."""
    result = subprocess.run(
        [sys.executable, "-c", SNIPPET], env=environment | more, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == expected
