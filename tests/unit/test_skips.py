"""The rules that decide which skipped tests CI accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.skips import expected_patterns

RULES = """
[[skip]]
reason = "^needs subordinate ids$"
where = ["nosub"]

[[skip]]
reason = "^needs a moon"
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


@pytest.mark.parametrize(
    ("where", "reason", "expected"),
    [
        ("nosub", "needs subordinate ids", True),
        ("user", "needs subordinate ids", False),
        ("user", "needs a moon that is full", True),
        ("", "needs a moon", True),
        ("vm", "needs something else", False),
    ],
)
def test_a_rule_names_the_reason_and_the_passes(
    rules: Path, where: str, reason: str, expected: bool
) -> None:
    """A skip is expected only for a reason that a rule names, in the passes that it names."""
    patterns = expected_patterns(rules, where)

    assert any(pattern.search(reason) for pattern in patterns) is expected
