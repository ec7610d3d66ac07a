"""Read CSV and Parquet files into columns, and their cells into dates and numbers.

A sheet keeps the line of every row, so that whoever finds a fault can say where it is. A file is
taken for hostile until it is read: what is no regular file, has a line that no daily bar needs, or
claims more rows than a machine can hold, is refused before it fills the memory.
"""

import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from adapters.source import EmptyFile, FileError, MissingColumns, WrongEncoding
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, SessionArray

UNKNOWN = ["", "null", "NULL", "nan", "NaN", "NA", "N/A", "None", "-"]
"""Cells that say a value is not known."""

LONGEST_LINE_BYTES = 65_536
"""A line of daily bars has a hundred bytes; whatever has more is no table of them."""
MOST_ROWS = 100_000_000
"""Rows of a Parquet file, whose few bytes can stand for any number of them."""
MOST_SHOWN = 200
"""Characters of a cell or line that a message repeats."""
MOST_NAME = 100
"""Characters of a column's name that a message repeats."""

_DATE = (
    r"^\d{4}-\d{2}-\d{2}"
    r"([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?( ?(Z|UTC|[+-]\d{2}:?\d{2}))?)?$"
)
_COMPACT_DATE = r"^(\d{4})(\d{2})(\d{2})$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


@dataclass(frozen=True, eq=False)
class Sheet:
    """A file as read.

    Attributes
    ----------
    columns : mapping of field -> pyarrow array; columns of unknown spelling are left out
    names : mapping of field -> the file's own spelling
    lines : int array
        Line of each row; the header is line 1 (a Parquet file counts as having one).
    malformed : tuple of (line, text)
        Lines with too few or too many cells; they are not in the columns.
    """

    file: str
    columns: Mapping[str, pa.ChunkedArray]
    names: Mapping[str, str]
    lines: IntArray
    malformed: tuple[tuple[int, str], ...] = ()


def read_sheet(path: Path, spellings: Mapping[str, str]) -> Sheet:
    """Return the columns of `path` whose names are known.

    Parameters
    ----------
    spellings : mapping
        Column name in lower case, letters and digits only -> field.

    Raises
    ------
    FileError
        If the file is empty, not UTF-8, not a table, or has two columns of one field.
    """
    skipped: list[tuple[int, str]] = []
    unclosed: list[tuple[int, str]] = []
    is_parquet = path.suffix.lower() == ".parquet"
    table = _read_parquet(path) if is_parquet else _read_csv(path, (skipped, unclosed), spellings)
    names = _known_names(path, table.column_names, spellings)
    lines = np.arange(2, table.num_rows + len(skipped) + 2, dtype=np.int64)
    lines = np.delete(lines, [line - 2 for line, _ in skipped])
    filled = _not_blank(table)
    columns = {field: table.column(name).filter(filled) for field, name in names.items()}
    malformed = tuple(sorted(skipped + unclosed))
    spelled = {field: shown(name, MOST_NAME) for field, name in names.items()}
    return Sheet(str(path), columns, spelled, lines[filled.to_numpy()], malformed)


def parse_dates(cells: pa.ChunkedArray) -> tuple[SessionArray, BoolArray]:
    """Return the days, and where a cell is none (NaT): YYYY-MM-DD, a timestamp or YYYYMMDD."""
    cells = _decoded(cells)
    if pa.types.is_date(cells.type) or pa.types.is_timestamp(cells.type):
        local = pc.local_timestamp(cells) if getattr(cells.type, "tz", None) else cells
        days = local.to_numpy().astype("datetime64[D]")
        return days, np.isnat(days)
    text = pc.utf8_trim_whitespace(cells.cast(pa.string()))
    text = pc.replace_substring_regex(text, _COMPACT_DATE, r"\1-\2-\3")
    shaped = pc.match_substring_regex(text, _DATE)
    day = pc.if_else(shaped, pc.utf8_slice_codeunits(text, 0, 10), None)
    try:
        days = day.cast(pa.date32()).to_numpy().astype("datetime64[D]")
    except pa.ArrowInvalid:
        days = np.array([_day(value) for value in day.to_pylist()], dtype="datetime64[D]")
    return days, np.isnat(days)


def parse_numbers(cells: pa.ChunkedArray) -> tuple[FloatArray, BoolArray]:
    """Return the numbers, NaN where unknown, and where a cell is neither."""
    cells = _decoded(cells)
    if not _is_text(cells.type):
        # Unsafe: a volume beyond 2**53 loses its last shares, not its file.
        return _floats(cells.cast(pa.float64(), safe=False)), np.zeros(len(cells), dtype=bool)
    text = pc.utf8_trim_whitespace(cells)
    text = pc.if_else(pc.is_in(text, value_set=pa.array(UNKNOWN)), None, text)
    try:
        return _floats(text.cast(pa.float64())), np.zeros(len(cells), dtype=bool)
    except pa.ArrowInvalid:
        bad = pc.invert(pc.match_substring_regex(text, _NUMBER)).fill_null(False)
        unsigned = pc.replace_substring_regex(pc.if_else(bad, None, text), r"^\+", "")
        return _floats(unsigned.cast(pa.float64())), bad.to_numpy().astype(bool)


def shown(text: str, most: int = MOST_SHOWN) -> str:
    """Return text of a file as a message and a database can hold it: printable, and not long."""
    printable = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    return printable if len(printable) <= most else f"{printable[:most]}..."


def require_types(sheet: Sheet, numbers: Iterable[str]) -> None:
    """Require columns that can be dates and numbers.

    Raises
    ------
    FileError
        Naming the first column of another type, as only a Parquet file can have.
    """
    for field, column in sheet.columns.items():
        of_numbers = field in numbers
        kind = _decoded(column).type
        fits = _is_text(kind) or pa.types.is_null(kind) or pa.types.is_integer(kind)
        fits = fits or (of_numbers and (pa.types.is_floating(kind) or pa.types.is_decimal(kind)))
        fits = fits or (field == "date" and (pa.types.is_date(kind) or pa.types.is_timestamp(kind)))
        if not fits:
            problem = f"the column is of type {column.type}"
            remedy = f"write it as {'numbers' if of_numbers else 'dates or text'}"
            raise FileError(sheet.file, problem, remedy, column=sheet.names[field])


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _decoded(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    is_coded = pa.types.is_dictionary(cells.type)
    return cells.cast(cells.type.value_type) if is_coded else cells


def _floats(cells: pa.ChunkedArray) -> FloatArray:
    return np.array(cells.fill_null(np.nan).to_numpy(), dtype=np.float64)


def _day(text: str | None) -> np.datetime64:
    try:
        return np.datetime64(text or "NaT", "D")
    except ValueError:
        return np.datetime64("NaT", "D")


def _read_parquet(path: Path) -> pa.Table:
    _require_regular(path)
    try:
        # One thread: instruments are read in parallel, not the columns of one.
        with parquet.ParquetFile(path) as file:
            if file.metadata.num_rows > MOST_ROWS:
                claimed = f"claims {file.metadata.num_rows:,} rows"
                raise FileError(path, claimed, f"split it; {MOST_ROWS:,} are read")
            table = file.read(use_threads=False)
    except (pa.ArrowException, OSError) as unreadable:
        raise FileError(
            path, f"not a Parquet file ({_first_line(unreadable)})", "write it again"
        ) from unreadable
    if not table.num_rows:
        raise EmptyFile(path, "the file has no rows", "download it again, or remove it")
    return table


def _read_csv(
    path: Path,
    faults: tuple[list[tuple[int, str]], list[tuple[int, str]]],
    spellings: Mapping[str, str],
) -> pa.Table:
    skipped, unclosed = faults
    content = _with_closed_quotes(_read_bytes(path), unclosed)

    def skip(row: arrow_csv.InvalidRow) -> str:
        skipped.append((row.number, shown(row.text)))
        return "skip"

    header = _header(content)
    if len(header) == 1 and (mark := next((each for each in ";\t|" if each in header[0]), None)):
        problem = f"the cells are separated by {mark!r}"
        raise FileError(path, problem, "separate them by commas, with decimal points", row=1)
    names = [name.strip('"') for name in header]
    try:
        # Most files are clean, and numbers read as numbers cost a third of numbers read as text.
        table = _csv_table(content, {name: _type(name, spellings) for name in names}, skip)
    except pa.ArrowInvalid:
        skipped.clear()
        try:
            table = _csv_table(content, dict.fromkeys(names, pa.string()), skip)
        except pa.ArrowInvalid as unreadable:
            problem = f"not a CSV table ({_first_line(unreadable)})"
            raise FileError(path, problem, "download it again") from unreadable
    if not table.num_rows and not skipped:
        raise EmptyFile(path, "the file has a header and no rows", "download it, or remove it")
    return table


def _with_closed_quotes(content: bytes, unclosed: list[tuple[int, str]]) -> bytes:
    """Blank the lines that leave a quote open, which would swallow every line after them."""
    if b'"' not in content:
        return content
    lines = content.split(b"\n")
    for place, line in enumerate(lines):
        if line.count(b'"') % 2:
            unclosed.append((place + 1, shown(line.decode())))
            lines[place] = b""
    return b"\n".join(lines)


def _csv_table(
    content: bytes,
    types: Mapping[str, pa.DataType],
    skip: Callable[[arrow_csv.InvalidRow], str],
) -> pa.Table:
    # Only one thread knows line numbers, and blank lines must count for them to be right.
    return arrow_csv.read_csv(
        pa.BufferReader(content),
        arrow_csv.ReadOptions(use_threads=False),
        arrow_csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=skip),
        arrow_csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""]),
    )


def _type(name: str, spellings: Mapping[str, str]) -> pa.DataType:
    field = _field(name, spellings)
    if field in (None, "symbol"):
        return pa.string()
    return pa.date32() if field == "date" else pa.float64()


def _read_bytes(path: Path) -> bytes:
    _require_regular(path)
    try:
        content = _bounded(path)
    except OSError as unreadable:
        raise _unopened(path, unreadable) from unreadable
    if not content.strip():
        raise EmptyFile(path, "the file is empty", "download it again, or remove it")
    for magic, name in _PACKED.items():
        if content.startswith(magic):
            raise FileError(path, f"the file is packed ({name})", "unpack it first")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as foreign:
        raise _wrong_encoding(path, content, foreign.start) from foreign
    if b"\0" in content.split(b"\n", 1)[0]:
        raise _wrong_encoding(path, content, content.index(b"\0"))
    return content if content.endswith(b"\n") else content + b"\n"


_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def _require_regular(path: Path) -> None:
    """Refuse folders, pipes and devices, which never end or never begin."""
    try:
        mode = path.stat().st_mode
    except OSError as unreadable:
        raise _unopened(path, unreadable) from unreadable
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise FileError(path, f"{what}, not a file", "remove it, or name the file itself")


def _unopened(path: Path, error: OSError) -> FileError:
    problem = error.strerror or "cannot be opened"
    return FileError(path, problem, "check that the file exists and may be read")


def _bounded(path: Path) -> bytes:
    """Return the file with every line end as a newline, never holding more than a line too long."""
    parts: list[bytes] = []
    line, length, held = 1, 0, b""
    with path.open("rb") as file:
        while chunk := file.read(LONGEST_LINE_BYTES):
            chunk, held = _with_newlines(held + chunk)
            first = chunk.find(b"\n")
            if length + (len(chunk) if first < 0 else first) > LONGEST_LINE_BYTES:
                raise FileError(
                    path,
                    f"a line of more than {LONGEST_LINE_BYTES:,} bytes",
                    "write a row per line; this is no table of daily bars",
                    row=line,
                )
            length = length + len(chunk) if first < 0 else len(chunk) - chunk.rfind(b"\n") - 1
            line += chunk.count(b"\n")
            parts.append(chunk)
    return b"".join(parts)


def _with_newlines(chunk: bytes) -> tuple[bytes, bytes]:
    """Return the chunk with newlines as line ends, and a last byte that may be half of one."""
    if b"\r" not in chunk:
        return chunk, b""
    held = chunk[-1:] if chunk.endswith(b"\r") else b""
    return chunk[: len(chunk) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n"), held


def _header(content: bytes) -> list[str]:
    line = content.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].rstrip(b"\r")
    return line.decode(errors="replace").split(",")


def _wrong_encoding(path: Path, content: bytes, position: int) -> WrongEncoding:
    header = _header(content)
    line_start = content.rfind(b"\n", 0, position) + 1
    column = content[line_start:position].count(b",")
    return WrongEncoding(
        path,
        f"byte 0x{content[position]:02x} is not UTF-8",
        "save the file as UTF-8",
        row=content[:position].count(b"\n") + 1,
        column=shown(header[column].strip(), MOST_NAME) if column < len(header) else None,
    )


def _field(name: str, spellings: Mapping[str, str]) -> str | None:
    return spellings.get(re.sub(r"[^a-z0-9]", "", name.lower()))


def _known_names(path: Path, names: list[str], spellings: Mapping[str, str]) -> dict[str, str]:
    known: dict[str, str] = {}
    for name in names:
        field = _field(name, spellings)
        if field in known:
            raise MissingColumns(
                path,
                f"two columns mean {field}: {shown(known[field])!r} and {shown(name)!r}",
                "remove one",
            )
        if field is not None:
            known[field] = name
    return known


def _not_blank(table: pa.Table) -> pa.ChunkedArray:
    filled = pc.is_valid(table.column(0))
    for column in table.columns[1:]:
        filled = pc.or_(filled, pc.is_valid(column))
    return filled


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
