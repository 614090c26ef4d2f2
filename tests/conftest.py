"""What holds for every test: who runs it, where it may run, which skips are allowed.

Started by root, pytest starts itself again as an ordinary user through ``setup/test``, as sbx is a
tool for ordinary users. Tests marked ``vm`` run in the test machine alone (``tests/vm``), those of
``tests/cli`` and ``tests/kernel`` count as marked ``both_users``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import rootfs
from tests.sbx_command import Sbx
from tests.skips import unexpected_skips

ROOT = Path(__file__).resolve().parents[1]
BOTH_USERS = (ROOT / "tests/cli", ROOT / "tests/kernel")
IN_VM = os.environ.get("SBX_VM") == "1"  # set by tests/vm/guest/start
STRICT_SKIPS = bool(os.environ.get("CI") or os.environ.get("SBX_STRICT_SKIPS"))

# The checkout that the tests run in is a copy that is not theirs to write: no database of examples.
hypothesis.settings.register_profile("sbx", database=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "sbx"))

_skip_reasons: list[tuple[str, str]] = []


def pytest_cmdline_main(config: pytest.Config) -> None:
    if os.geteuid() == 0 and not config.option.collectonly and not config.option.help:
        program = str(ROOT / "setup/test")
        arguments = [_from_root(argument) for argument in sys.argv[1:]]
        os.execv(program, [program, *(arguments or ["tests"])])


def _from_root(argument: str) -> str:
    """A test's path as seen from the checkout's root, where the copy's tests are started."""
    path, colons, name = argument.partition("::")
    if path.startswith("-") or not (found := Path(path).resolve()).is_relative_to(ROOT):
        return argument
    return f"{found.relative_to(ROOT)}{colons}{name}" if found.exists() else argument


def pytest_itemcollected(item: pytest.Item) -> None:
    if any(item.path.is_relative_to(directory) for directory in BOTH_USERS):
        item.add_marker(pytest.mark.both_users)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    elsewhere = [item for item in items if item.get_closest_marker("vm") and not IN_VM]
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skip_reasons.append((report.nodeid, reason.removeprefix("Skipped: ")))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        _skip_reasons.append((report.nodeid, report.longrepr[2].removeprefix("Skipped: ")))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if STRICT_SKIPS and exitstatus == pytest.ExitCode.OK and unexpected_skips(_skip_reasons):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    unexpected = unexpected_skips(_skip_reasons)
    if unexpected:
        verdict = "failure, as CI or SBX_STRICT_SKIPS is set" if STRICT_SKIPS else "allowed here"
        terminalreporter.section(f"skips that tests/expected_skips.toml does not name ({verdict})")
        for nodeid, reason in unexpected:
            terminalreporter.line(f"{nodeid}: {reason}")


@pytest.fixture(autouse=True)
def _working_directory() -> Iterator[None]:
    """A test that changes its working directory changes no other's."""
    before = os.open(".", os.O_PATH | os.O_DIRECTORY)
    yield
    os.fchdir(before)
    os.close(before)


@pytest.fixture(scope="session")
def sbx_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """XDG_CACHE_HOME of all tests: compiled seccomp filters and the like are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def sbx(sbx_cache: Path) -> Iterator[Sbx]:
    """The real ``sbx`` with state directories of its own; nothing of it may outlive the test."""
    with Sbx.in_private_directories(cache=sbx_cache) as command:
        yield command


@pytest.fixture(scope="session")
def busybox_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny root file system: a static busybox with all its names in /bin."""
    program = rootfs.busybox()
    if program is None:
        pytest.skip("needs busybox-static")
    path = tmp_path_factory.mktemp("rootfs") / "busybox.tar"
    rootfs.write_busybox_tar(program, path)
    return path


@pytest.fixture(scope="session")
def debian_tar() -> Path:
    """Debian's root file system with apt, 120 MB, made by ``setup/rootfs``."""
    if not rootfs.DEBIAN.exists():
        pytest.skip(f"needs {rootfs.DEBIAN} (setup/rootfs)")
    return rootfs.DEBIAN
