"""What a registry asks for: the WWW-Authenticate header (RFC 9110, 11.6.1; distribution's token
specification)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+|$)")
_PARAMETER = re.compile(r'\s*([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))\s*(?:,|$)')


class Challenge(Struct, frozen=True):
    """One way to authenticate."""

    scheme: str  # "bearer", "basic"
    realm: str = ""  # bearer: the token server's address
    service: str = ""
    scope: str = ""


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Return the challenges of all *headers* in order; what is not understood is left out."""
    found = []
    for header in headers:
        at = 0
        while match := _SCHEME.match(header, at):
            scheme, at = match[1].lower(), match.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(header, at):
                value = parameter[3] or re.sub(r"\\(.)", r"\1", parameter[2] or "")
                parameters[parameter[1].lower()] = value
                at = parameter.end()
            known = {k: v for k, v in parameters.items() if k in ("realm", "service", "scope")}
            found.append(Challenge(scheme, **known))
    return found
