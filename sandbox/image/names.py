"""Names in index.json: which entry a reference means, and what a new name does to the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import structs

from sandbox.errors import InvalidSpec
from sandbox.image.builtin import BUILTIN
from sandbox.image.descriptor import REF_NAME, Descriptor
from sandbox.image.reference import Reference, parse_reference


def name_for(reference: str) -> Reference:
    """Return the name that a new image shall have. Raises InvalidSpec."""
    name = parse_reference(reference)
    if name.digest:
        raise InvalidSpec(f"{reference!r} has a digest", hint="give it a tag: NAME:TAG")
    if name.familiar_name == BUILTIN:
        raise InvalidSpec(f"the name {BUILTIN} is the built-in image's", hint="choose another name")
    return name


def full_name(entry: Descriptor) -> str:
    """Return the name of an index entry in full; other tools may have written a short one."""
    written = entry.ref_name or ""
    try:
        return str(parse_reference(written))
    except InvalidSpec:
        return written


def matching(entries: Iterable[Descriptor], reference: str) -> Descriptor | None:
    try:
        wanted = parse_reference(reference)
    except InvalidSpec:
        return None
    named = [e for e in entries if e.ref_name]
    if wanted.digest:
        for entry in named:
            if (
                entry.digest == wanted.digest
                and parse_reference(full_name(entry)).name == wanted.name
            ):
                return entry
        return None
    full = str(wanted)
    for entry in named:
        if entry.ref_name == full or full_name(entry) == full:
            return entry
    return None


def without_name(entries: Sequence[Descriptor], name: str) -> list[Descriptor]:
    """Take *name* away; an image whose last name it was stays, without any."""
    left = [e for e in entries if not e.ref_name or full_name(e) != name]
    lost = [e for e in entries if e.ref_name and full_name(e) == name]
    kept = {e.digest for e in left}
    return left + [structs.replace(e, annotations={}) for e in lost if e.digest not in kept]


def named(entries: Sequence[Descriptor], bare: Descriptor, name: str) -> list[Descriptor]:
    """Add *bare* under *name*; it does not need its nameless entry any more."""
    left = [e for e in entries if e.ref_name or e.digest != bare.digest]
    return [*left, structs.replace(bare, annotations={REF_NAME: name})]
