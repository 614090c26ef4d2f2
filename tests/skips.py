"""Which skips are expected, and where: the rules of ``expected_skips.toml``.

A test that cannot run skips with its reason. In CI a skip that no rule names is a failure, since a
test that silently stops running proves nothing.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

Skip = tuple[str, str]  # test id, reason


def expected_patterns(rules: Path, where: str) -> list[re.Pattern[str]]:
    """The patterns of *rules* that hold in the pass *where* (user, nosub, vm; "" is none)."""
    with rules.open("rb") as file:
        skips = tomllib.load(file).get("skip", [])
    return [re.compile(skip["reason"]) for skip in skips if where in skip.get("where", [where])]


def unexpected_skips(skips: Sequence[Skip]) -> list[Skip]:
    """Those of *skips* that no rule names for the pass that runs (``SBX_PASS``)."""
    rules = Path(__file__).with_name("expected_skips.toml")
    patterns = expected_patterns(rules, os.environ.get("SBX_PASS", ""))
    return [skip for skip in skips if not any(pattern.search(skip[1]) for pattern in patterns)]
