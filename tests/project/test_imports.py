"""The import directions of docs/architecture.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.project.imports import Import, imports_below, imports_of

ROOT = Path(__file__).resolve().parents[2]

# Nothing imports from a layer below its own in this list. A new module or package gets a place here
# and in docs/architecture.md.
LAYERS = (
    ("errors", "spec", "paths", "wire", "link", "call"),
    ("linux",),
    ("overlay", "network", "image", "state"),
    ("container",),
    ("supervisor",),
    ("engine",),
    ("build", "dev", "doctor"),
    ("library",),
    ("cli", "api", "pytest_plugin"),
    ("client", "launcher", "command_process", "__init__", "__main__"),  # the entry points
)
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
TRIO_MAY_BE_USED_IN = {"supervisor", "engine", "build", "library", "api"} | set(LAYERS[-1])
CTYPES_MAY_BE_USED_IN = {"linux"}
INIT_MAY_IMPORT = {"container", "linux", "spec", "errors"}


def component(module: str) -> str:
    """The part of ``sandbox`` that *module* belongs to."""
    name = module.partition(".")[2].partition(".")[0] or "__init__"
    # "from sandbox import __version__" and the like name the package itself
    return name if name in LAYER_OF or (ROOT / "sandbox" / name).exists() else "__init__"


def imports_of_sandbox() -> list[Import]:
    return imports_below(ROOT / "sandbox")


def is_top(found: Import, package: str) -> bool:
    return found.module.partition(".")[0] == package


def test_every_part_has_a_layer() -> None:
    """No module or package of sandbox is without a place among the layers."""
    parts = {path.stem for path in (ROOT / "sandbox").iterdir() if path.suffix in ("", ".py")}

    assert parts - {"__pycache__"} <= set(LAYER_OF)


def test_nothing_imports_from_a_later_layer() -> None:
    """Imports inside sandbox go to the same layer or to an earlier one."""
    wrong = [
        found
        for found in imports_of_sandbox()
        if is_top(found, "sandbox")
        and found.module != "sandbox.__version__"
        and LAYER_OF[component(found.module)] > LAYER_OF[component(found.importer)]
    ]

    assert not wrong, "\n".join(map(str, wrong))


def test_the_overlay_knows_nothing_of_sandbox() -> None:
    """fuse_overlay is a package of its own that others could use."""
    wrong = [found for found in imports_below(ROOT / "fuse_overlay") if is_top(found, "sandbox")]

    assert not wrong, "\n".join(map(str, wrong))


def test_containers_init_imports_little() -> None:
    """What runs inside the container loads the system call wrappers, the spec and the errors alone.

    Also by way of the other modules of its package.
    """
    wrong: list[str] = []
    seen: set[Path] = set()
    todo = [ROOT / "sandbox/container/init.py"]
    while todo:
        path = todo.pop()
        seen.add(path)
        for found in (found for found in imports_of(path, ROOT) if is_top(found, "sandbox")):
            if component(found.module) not in INIT_MAY_IMPORT:
                wrong.append(str(found))
            elif component(found.module) == "container":
                todo += {source_of(found.module)} - seen

    assert not wrong, "\n".join(wrong)


def source_of(module: str) -> Path:
    """The file of *module*, or of the module that the name *module* is taken from."""
    path = ROOT.joinpath(*module.split("."))
    if path.is_dir():
        return path / "__init__.py"
    file = path.with_suffix(".py")
    return file if file.exists() else source_of(module.rpartition(".")[0])


@pytest.mark.parametrize(
    ("library", "allowed"), [("trio", TRIO_MAY_BE_USED_IN), ("ctypes", CTYPES_MAY_BE_USED_IN)]
)
def test_a_library_is_used_only_where_it_belongs(library: str, allowed: set[str]) -> None:
    """trio costs 100 ms to import; ctypes calls are kept where they are reviewed as such."""
    wrong = [
        found
        for found in imports_of_sandbox()
        if is_top(found, library) and component(found.importer) not in allowed
    ]

    assert not wrong, "\n".join(map(str, wrong))


def test_relative_imports_are_resolved(tmp_path: Path) -> None:
    """The reader of imports itself: relative and nested ones are found, with absolute names."""
    source = tmp_path / "package/part/module.py"
    source.parent.mkdir(parents=True)
    source.write_text("from . import a\nfrom ..other import b\ndef f():\n    import c.d\n")

    found = [str(each) for each in imports_of(source, tmp_path)]

    assert found == [
        "package.part.module:1 imports package.part.a",
        "package.part.module:2 imports package.other.b",
        "package.part.module:4 imports c.d",
    ]
