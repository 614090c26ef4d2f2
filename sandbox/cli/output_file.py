"""Writing a file that is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from sandbox.errors import InvalidSpec


@contextmanager
def written_whole(path: str) -> Iterator[BinaryIO]:
    """Give a file that takes the place of *path* at the end; a failure leaves what was there.

    Raises InvalidSpec when it can't be written.
    """
    aside = f"{path}.{os.getpid()}.part"
    try:
        with open(aside, "xb") as file:
            yield file
        os.rename(aside, path)
    except OSError as err:
        raise InvalidSpec(f"can't write {path}", detail=err.strerror) from err
    finally:
        with suppress(FileNotFoundError):
            os.unlink(aside)
