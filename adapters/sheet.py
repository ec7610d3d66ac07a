"""Read CSV and Parquet files into columns, and their cells into dates and numbers.

A sheet keeps the line of every row, so that whoever finds a fault can say where it is.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
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

_DATE = r"^\d{4}-\d{2}-\d{2}([T ].*)?$"
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
    malformed: list[tuple[int, str]] = []
    is_parquet = path.suffix.lower() == ".parquet"
    table = _read_parquet(path) if is_parquet else _read_csv(path, malformed)
    names = _known_names(path, table.column_names, spellings)
    lines = np.arange(2, table.num_rows + len(malformed) + 2, dtype=np.int64)
    lines = np.delete(lines, [line - 2 for line, _ in malformed])
    filled = _not_blank(table)
    columns = {field: table.column(name).filter(filled) for field, name in names.items()}
    return Sheet(str(path), columns, names, lines[filled.to_numpy()], tuple(malformed))


def parse_dates(cells: pa.ChunkedArray) -> tuple[SessionArray, BoolArray]:
    """Return the days, and where a cell is none (NaT): YYYY-MM-DD, a timestamp or YYYYMMDD."""
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
    if not pa.types.is_string(cells.type) and not pa.types.is_large_string(cells.type):
        return _floats(cells.cast(pa.float64())), np.zeros(len(cells), dtype=bool)
    text = pc.utf8_trim_whitespace(cells)
    text = pc.if_else(pc.is_in(text, value_set=pa.array(UNKNOWN)), None, text)
    try:
        return _floats(text.cast(pa.float64())), np.zeros(len(cells), dtype=bool)
    except pa.ArrowInvalid:
        bad = pc.invert(pc.match_substring_regex(text, _NUMBER)).fill_null(False)
        numbers = pc.if_else(bad, None, text).cast(pa.float64())
        return _floats(numbers), bad.to_numpy().astype(bool)


def _floats(cells: pa.ChunkedArray) -> FloatArray:
    return np.array(cells.fill_null(np.nan).to_numpy(), dtype=np.float64)


def _day(text: str | None) -> np.datetime64:
    try:
        return np.datetime64(text or "NaT", "D")
    except ValueError:
        return np.datetime64("NaT", "D")


def _read_parquet(path: Path) -> pa.Table:
    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as unreadable:
        raise FileError(
            path, f"not a Parquet file ({_first_line(unreadable)})", "write it again"
        ) from unreadable
    if not table.num_rows:
        raise EmptyFile(path, "the file has no rows", "download it again, or remove it")
    return table


def _read_csv(path: Path, malformed: list[tuple[int, str]]) -> pa.Table:
    content = _read_bytes(path)

    def skip(row: arrow_csv.InvalidRow) -> str:
        malformed.append((row.number, row.text))
        return "skip"

    texts = {name.strip('"'): pa.string() for name in _header(content)}
    try:
        # Only one thread knows line numbers, and blank lines must count for them to be right.
        table = arrow_csv.read_csv(
            BytesIO(content),
            arrow_csv.ReadOptions(use_threads=False),
            arrow_csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=skip),
            arrow_csv.ConvertOptions(
                column_types=texts, strings_can_be_null=True, null_values=[""]
            ),
        )
    except pa.ArrowInvalid as unreadable:
        problem = f"not a CSV table ({_first_line(unreadable)})"
        raise FileError(path, problem, "download it again") from unreadable
    if not table.num_rows and not malformed:
        raise EmptyFile(path, "the file has a header and no rows", "download it, or remove it")
    return table


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as unreadable:
        problem = unreadable.strerror or "cannot be opened"
        raise FileError(path, problem, "check that the file exists and may be read") from unreadable
    if not content.strip():
        raise EmptyFile(path, "the file is empty", "download it again, or remove it")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as foreign:
        raise _wrong_encoding(path, content, foreign.start) from foreign
    return content if content.endswith(b"\n") else content + b"\n"


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
        column=header[column].strip() if column < len(header) else None,
    )


def _known_names(path: Path, names: list[str], spellings: Mapping[str, str]) -> dict[str, str]:
    known: dict[str, str] = {}
    for name in names:
        field = spellings.get(re.sub(r"[^a-z0-9]", "", name.lower()))
        if field in known:
            raise MissingColumns(
                path, f"two columns mean {field}: {known[field]!r} and {name!r}", "remove one"
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
