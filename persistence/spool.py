"""A file of records that are on the disk before the writer goes on, in the order they came.

Rules of a spool:

- A record is complete or absent: a torn end, which a crash leaves, is cut off when it is opened.
- One process holds it; a second one is refused for as long as the first lives, however it ends.
- A record that was damaged before the end is an error: what follows it was promised too.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from struct import Struct
from tempfile import TemporaryDirectory
from zlib import crc32

from prometheus_nt.domain.errors import RecordUnwritable, StoreError

_MARK = b"PNTR"
_HEAD = Struct("<4sQI")
"""Mark, length of a record in bytes, and the checksum of its content."""


def records_of(path: Path) -> list[bytes]:
    """Return the records of a spool that another process may hold; nothing if there is no file.

    Raises
    ------
    StoreError
        If a record in it is damaged.
    """
    if not path.exists():
        return []
    with TemporaryDirectory(prefix="prometheus-spool-") as folder:
        copy = Path(shutil.copyfile(path, Path(folder) / path.name))
        with closing(Spool(copy)) as spool:
            return list(spool.records())


class Spool:
    """An append-only file of byte records.

    Raises
    ------
    StoreError
        If another process holds the file, or a record in it is damaged.
    RecordUnwritable
        If it cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as refused:
            raise self._halted(refused) from refused
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as held:
            os.close(self._file)
            raise StoreError(
                f"{path}: another process trades this run; stop it, or wait until it has ended"
            ) from held
        self._end = self._cut_torn_end()

    def __len__(self) -> int:
        """Return the bytes of all records; 0 if there is none."""
        return self._end

    def append(self, *records: bytes) -> None:
        """Add records; on return they are on the disk, all of them.

        Raises
        ------
        RecordUnwritable
            If they cannot be written: nobody may go on from what is not recorded.
        """
        framed = b"".join(_HEAD.pack(_MARK, len(each), crc32(each)) + each for each in records)
        try:
            self._write(framed)
        except OSError as refused:
            raise self._halted(refused) from refused
        self._end += len(framed)

    def records(self) -> Iterator[bytes]:
        """Yield every record, oldest first."""
        at = 0
        while at < self._end:
            content = self._read(at)
            if content is None:
                raise self._damaged(at)
            yield content
            at += _HEAD.size + len(content)

    def clear(self) -> None:
        """Forget every record: they are safe elsewhere."""
        try:
            os.ftruncate(self._file, 0)
            os.fsync(self._file)
        except OSError as refused:
            raise self._halted(refused) from refused
        self._end = 0

    def close(self) -> None:
        """Let the file go."""
        os.close(self._file)

    def _write(self, framed: bytes) -> None:
        at = self._end
        while framed:
            written = os.pwrite(self._file, framed, at)
            framed, at = framed[written:], at + written
        os.fsync(self._file)

    def _read(self, at: int) -> bytes | None:
        """Return the record at a byte, or None if no whole one is there."""
        head = os.pread(self._file, _HEAD.size, at)
        if len(head) < _HEAD.size:
            return None
        mark, length, checksum = _HEAD.unpack(head)
        if mark != _MARK or length > os.fstat(self._file).st_size:
            return None
        content = os.pread(self._file, length, at + _HEAD.size)
        return content if len(content) == length and crc32(content) == checksum else None

    def _cut_torn_end(self) -> int:
        """Return where the last complete record ends; nothing stays after it."""
        at, size = 0, os.fstat(self._file).st_size
        while (content := self._read(at)) is not None:
            at += _HEAD.size + len(content)
        # A crash tears the last record only: a whole one after a broken one means damage.
        rest = os.pread(self._file, size - at, at)
        later = rest.find(_MARK, 1)
        while later > 0:
            if self._read(at + later) is not None:
                raise self._damaged(at)
            later = rest.find(_MARK, later + 1)
        if at < size:
            os.ftruncate(self._file, at)
            os.fsync(self._file)
        return at

    def _damaged(self, at: int) -> StoreError:
        return StoreError(f"{self.path}: the record at byte {at} is damaged; restore a copy of it")

    def _halted(self, refused: OSError) -> RecordUnwritable:
        return RecordUnwritable(
            f"{self.path}: cannot be written ({refused}), so nothing that happens could be kept; "
            "trading halts and positions stay. Make room or mend the permissions, then start again"
        )
