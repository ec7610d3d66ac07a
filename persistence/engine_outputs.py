"""What engines made, under the hash of everything that decided it: computed once, shared by all.

Rules of the store:

- A key names content: whoever asks with the same key would have computed the same records.
- A tape appears whole or not at all; of several processes that want the same, one computes it and
  the others wait for it. A process that dies leaves nothing but its lock, which the system frees.
- The store is a cache. It never grows above its limit for long: what was not used for the longest
  time goes first, and whoever still reads it may read on.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from persistence.record_tape import Heard, RecordTape, write_tape
from persistence.whole_files import whole_file
from prometheus_nt.domain.errors import StoreError

LARGEST_BYTES = 8 * 2**30
"""Default limit on the disk that shared outputs take: some twenty campaigns of 500 names."""

TAPE = ".tape"
LOCK = ".lock"


@dataclass(frozen=True)
class OutputStore:
    """Tapes of records in one folder."""

    folder: Path
    largest_bytes: int = LARGEST_BYTES

    def tape(
        self,
        key: str,
        instruments: tuple[str, ...],
        compute: Callable[[], Iterable[Heard]],
    ) -> RecordTape:
        """Return the tape of a key; where there is none, what `compute` yields becomes it.

        Raises
        ------
        StoreError
            If the folder cannot be written.
        """
        found = self._opened(key, instruments)
        if found is not None:
            return found
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._alone(key):
                # Whoever held the lock before may have made it.
                found = self._opened(key, instruments)
                if found is not None:
                    return found
                with whole_file(self._path(key)) as file:
                    write_tape(file, compute(), instruments)
                _used_now(self._path(key))
                made = RecordTape(self._path(key), instruments)
        except OSError as refused:
            raise StoreError(f"{self.folder}: cannot be written: {refused}") from refused
        self._prune(key)
        return made

    def bytes_used(self) -> int:
        """Return how much of the disk the tapes take."""
        return sum(size for _, size, _ in self._tapes())

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{TAPE}"

    def _opened(self, key: str, instruments: tuple[str, ...]) -> RecordTape | None:
        path = self._path(key)
        try:
            _used_now(path)
        except OSError:
            return None
        try:
            return RecordTape(path, instruments)
        except StoreError:
            # Cut or gone since: it is made again, which is all that a cache has to promise.
            return None

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        with (self.folder / f"{key}{LOCK}").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _tapes(self) -> list[tuple[int, int, Path]]:
        """Return when each tape was used last, its size and its path."""
        found = []
        for path in self.folder.glob(f"*{TAPE}"):
            try:
                state = path.stat()
            except FileNotFoundError:
                continue  # another process made room
            found.append((state.st_mtime_ns, state.st_size, path))
        return found

    def _prune(self, kept: str) -> None:
        tapes = sorted(self._tapes())
        used = sum(size for _, size, _ in tapes)
        for _, size, path in tapes:
            if used <= self.largest_bytes:
                return
            if path != self._path(kept):
                path.unlink(missing_ok=True)
                path.with_suffix(LOCK).unlink(missing_ok=True)
                used -= size


def _used_now(path: Path) -> None:
    # The system's own stamp moves in steps of milliseconds: two tapes used within one would tie.
    now = time.time_ns()
    os.utime(path, ns=(now, now))
