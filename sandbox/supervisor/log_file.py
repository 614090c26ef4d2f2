"""The container's output on disk: docker's json-file format, capped and rotated.

One JSON object a line: {"log": "text\\n", "stream": "stdout", "time": "RFC 3339"}.
https://docs.docker.com/engine/logging/drivers/json-file/
"""

from __future__ import annotations

import os
import time
from json.encoder import encode_basestring
from pathlib import Path

# A line longer than this is cut into entries, as docker does.
_MAX_ENTRY = 16 << 10


class LogFile:
    """Appends output; keeps at most *max_files* files of at most *max_size* bytes."""

    def __init__(self, path: Path, max_size: int, max_files: int) -> None:
        self._path = path
        self._max_size = max_size
        self._max_files = max(max_files, 1)
        self._descriptor = self._open()
        self._size = os.fstat(self._descriptor).st_size
        self._partial: dict[str, bytes] = {}

    def write(self, stream: str, data: bytes) -> None:
        """Append *data*; an unfinished line waits for its rest, up to the entry size."""
        data = self._partial.pop(stream, b"") + data
        head, newline, tail = data.rpartition(b"\n")
        if len(tail) < _MAX_ENTRY:
            self._partial[stream] = tail
            data = head + newline
        if data:
            self._append(stream, data)

    def close(self) -> None:
        for stream, rest in self._partial.items():
            if rest:
                self._append(stream, rest)
        os.close(self._descriptor)

    def _append(self, stream: str, data: bytes) -> None:
        now = time.time_ns()
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
        suffix = f',"stream":"{stream}","time":"{seconds}.{now % 10**9:09d}Z"}}\n'
        text = data.decode(errors="replace")
        lines = text.split("\n")
        last = lines.pop()
        entries = [
            f'{{"log":{encode_basestring(entry)}{suffix}'
            for line in lines
            for entry in _cut(line + "\n")
        ]
        entries += [f'{{"log":{encode_basestring(entry)}{suffix}' for entry in _cut(last)]
        self._write("".join(entries).encode())

    def _write(self, content: bytes) -> None:
        while content:
            if self._size >= self._max_size:
                self._rotate()
            room = self._max_size - self._size
            part = content
            if len(content) > room:
                # Whole lines only; a first line larger than the room goes in all the same.
                end = content.rfind(b"\n", 0, room) + 1 or content.find(b"\n") + 1
                part = content[:end]
            try:
                os.write(self._descriptor, part)
            except OSError:
                return  # a full disk must not stop the container
            self._size += len(part)
            content = content[len(part) :]

    def _rotate(self) -> None:
        os.close(self._descriptor)
        for number in range(self._max_files - 1, 0, -1):
            older = self._path if number == 1 else self._path.with_name(f"log.jsonl.{number - 1}")
            try:
                older.rename(self._path.with_name(f"log.jsonl.{number}"))
            except FileNotFoundError:
                continue
        if self._max_files == 1:
            self._path.unlink(missing_ok=True)
        self._descriptor = self._open()
        self._size = 0

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            return os.open(self._path, flags, 0o600)
        except FileNotFoundError:
            # The container was removed while its last output is on the way: nobody can read it.
            return os.open(os.devnull, flags)


def _cut(line: str) -> list[str]:
    if len(line) <= _MAX_ENTRY:
        return [line] if line else []
    return [line[i : i + _MAX_ENTRY] for i in range(0, len(line), _MAX_ENTRY)]
