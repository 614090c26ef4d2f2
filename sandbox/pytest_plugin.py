"""The pytest plug-in: a fixture that runs untrusted code, for graders and for tests of tools.

def test_submission(sandbox_run):
    result = sandbox_run(["python3", "-"], input=open("submission.py").read(), timeout=5)
    assert result.returncode == 0
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from sandbox.library import Completed, run


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sbx", "running untrusted code in a sandbox")
    group.addoption("--sbx-profile", default="untrusted", help="the profile that sandbox_run uses")
    group.addoption(
        "--sbx-cgroups",
        choices=("enabled", "best-effort"),
        default="enabled",
        help="best-effort: go on where a limit can't be enforced",
    )


@pytest.fixture
def sandbox_run(request: pytest.FixtureRequest) -> Callable[..., Completed]:
    """`sandbox.run` with the profile and the mode that the command line names."""
    config = request.config
    return partial(
        run, profile=config.getoption("--sbx-profile"), cgroups=config.getoption("--sbx-cgroups")
    )
