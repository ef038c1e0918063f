"""What is on its way to the server lies on its disk until it is whole: replies of many sites that arrive at
once need no memory."""

import os
import tempfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import IO

SMALL = 2**16
"""Bytes; what has fewer stays in memory."""
AT_ONCE = 2**30
"""The most bytes that are written, or read, in one call: Linux takes less than 2**31."""


class Spool(MutableMapping[str, bytes]):
    """A dictionary of bytes. Its file has no name: whatever becomes of the process, nothing of it is left."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` is where the file lies; None: where temporary files do. It is made when it is needed."""
        self._folder = folder
        self._small: dict[str, bytes] = {}
        self._places: dict[str, tuple[int, int]] = {}  # offset, length
        self._file: IO[bytes] | None = None

    def __setitem__(self, key: str, content: bytes) -> None:
        """Raises OSError, for example if the disk is full; then nothing is kept of it."""
        if len(content) < SMALL:
            self._small[key] = content
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - kept open
        offset = self._file.seek(0, os.SEEK_END)
        try:
            for start in range(0, len(content), AT_ONCE):
                self._write(memoryview(content)[start : start + AT_ONCE])
        except OSError:
            os.truncate(self._file.fileno(), offset)
            raise
        self._places[key] = (offset, len(content))

    def __getitem__(self, key: str) -> bytes:
        if key in self._small:
            return self._small[key]
        offset, length = self._places[key]
        assert self._file is not None
        number, ends = self._file.fileno(), range(offset, offset + length, AT_ONCE)
        return b"".join(os.pread(number, min(AT_ONCE, offset + length - at), at) for at in ends)

    def _write(self, part: memoryview) -> None:
        assert self._file is not None
        while part:  # where the disk is full, as much as there is room for, and then an error
            part = part[self._file.write(part) :]

    def __delitem__(self, key: str) -> None:
        del (self._small if key in self._small else self._places)[key]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._small, *self._places])

    def __len__(self) -> int:
        return len(self._small) + len(self._places)

    def clear(self) -> None:
        """Let go of everything, the file too."""
        self._small, self._places = {}, {}
        if self._file is not None:
            self._file.close()
            self._file = None
