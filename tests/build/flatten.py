"""An image in an OCI archive as plain data: its configuration, and its tree beyond the base's.

Written apart from sbx, on the standard library: it judges what sbx and buildah made alike.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import posixpath
import tarfile
from pathlib import Path
from typing import Any

Tree = dict[str, dict[str, Any]]
_KEPT_TEXT = 200
_KINDS = {tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink", tarfile.FIFOTYPE: "fifo"}


def read_image(archive: Path) -> tuple[dict[str, Any], list[Tree]]:
    """The configuration document, and the tree after each layer."""
    with tarfile.open(archive) as tar:
        blobs = {m.name.removeprefix("./"): m for m in tar.getmembers() if m.isfile()}

        def blob(digest: str) -> bytes:
            file = tar.extractfile(blobs[f"blobs/{digest.replace(':', '/')}"])
            assert file is not None
            return file.read()

        index_file = tar.extractfile(blobs["index.json"])
        assert index_file is not None
        manifest = json.loads(blob(json.load(index_file)["manifests"][0]["digest"]))
        document: dict[str, Any] = json.loads(blob(manifest["config"]["digest"]))
        trees: list[Tree] = []
        tree: Tree = {}
        for layer in manifest["layers"]:
            tree = dict(tree)
            _apply(blob(layer["digest"]), tree)
            trees.append(tree)
        return document, trees


def _apply(data: bytes, tree: Tree) -> None:
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = [(m, posixpath.normpath("/" + m.name)) for m in tar.getmembers()]
        # Marks act on what is below, wherever in the archive they stand.
        for _, path in members:
            directory, name = posixpath.split(path)
            if name == ".wh..wh..opq":
                _remove_below(tree, directory)
            elif name.startswith(".wh."):
                _remove(tree, posixpath.join(directory, name[4:]))
        for member, path in members:
            if not posixpath.basename(path).startswith(".wh."):
                _put(tar, member, path, tree)


def _remove_below(tree: Tree, directory: str) -> None:
    for known in [p for p in tree if p.startswith(directory.rstrip("/") + "/")]:
        del tree[known]


def _remove(tree: Tree, path: str) -> None:
    tree.pop(path, None)
    _remove_below(tree, path)


def _put(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, tree: Tree) -> None:
    if member.islnk():
        target = posixpath.normpath("/" + member.linkname)
        tree[target]["linked"] = True
        tree[path] = tree[target]
        return
    entry: dict[str, Any] = {
        "type": _KINDS.get(member.type, "file"),
        "mode": f"{member.mode & 0o7777:04o}",
        "owner": f"{member.uid}:{member.gid}",
    }
    if member.issym():
        entry["target"] = member.linkname
        del entry["mode"]
    elif member.isfile():
        file = tar.extractfile(member)
        assert file is not None
        content = file.read()
        text = content.decode(errors="replace") if len(content) <= _KEPT_TEXT else ""
        entry["content"] = text or (hashlib.sha256(content).hexdigest() if content else "")
    if entry["type"] != "dir":
        _remove(tree, path)
    tree[path] = entry


def beyond(base: Tree, tree: Tree) -> dict[str, Any]:
    """What *tree* has that *base* has not, or differently; what is missing is None."""
    changed: dict[str, Any] = {p: e for p, e in tree.items() if base.get(p) != e and p != "/"}
    gone = {p for p in base if p not in tree}
    # A directory that is gone says it for all that was in it.
    changed |= {p: None for p in gone if posixpath.dirname(p) not in gone}
    return dict(sorted(changed.items()))


_FIELDS = {
    "Env": [],
    "Cmd": None,
    "Entrypoint": None,
    "User": "",
    "WorkingDir": "",
    "Labels": {},
    "ExposedPorts": {},
    "Volumes": {},
    "StopSignal": "",
    "Healthcheck": None,
    "Shell": [],
    "OnBuild": [],
}


def described(archive: Path, base: tuple[dict[str, Any], list[Tree]]) -> dict[str, Any]:
    """What an expectation says of an image: all that counts, without times and digests."""
    document, trees = read_image(archive)
    config = document.get("config", {})
    values: dict[str, Any] = {}
    for field, empty in _FIELDS.items():
        value = config.get(field)
        if value and value != empty:
            values[field] = value
    if author := document.get("author"):
        values["author"] = author
    base_document, base_trees = base
    above = base_document["rootfs"]["diff_ids"]
    below = base_trees[-1] if document["rootfs"]["diff_ids"][: len(above)] == above else {}
    return {"config": values, "tree": beyond(below, trees[-1] if trees else {})}
