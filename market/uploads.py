"""Files that come in: spooled to disk as they arrive, then read row by row in constant memory.

A row that cannot be read is a fault with a reason, and the rows after it are read all the same. A
file that cannot be read at all (another encoding, no header, broken Parquet) is refused whole.
"""

import codecs
import csv
import hashlib
import math
import re
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Generic, TypeVar, cast

import anyio.to_thread
import msgspec
from litestar import Request
from litestar.exceptions import InternalServerException
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)

from market.errors import MarketError

T = TypeVar("T", bound=msgspec.Struct)

MAX_UPLOAD_BYTES = 2 * 1024**3
MAX_ROW_BYTES = 1024 * 1024
CHUNK_BYTES = 1024 * 1024
BATCH_ROWS = 2_000
MAX_ROW_GROUP_BYTES = 256 * 1024 * 1024

FORMATS = {
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/json-lines": "jsonl",
    "text/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
}
CHARSETS = re.compile(
    r"utf-?(8|16|32)(-?[lb]e)?|(us-)?ascii|latin-?1|iso-?8859-?\d{1,2}|(windows|cp)-?\d{3,4}"
    r"|koi8-[rut]|mac-?roman|shift-?jis|euc-?(jp|kr)|iso-?2022-?jp|gbk|gb2312|gb18030|big5|big5hkscs"
)
"""The character sets of tables; Python knows codecs that are none, such as rot13."""


class UploadTypeUnknown(MarketError):
    """A body in a format that is not taken."""

    def __init__(self, sent: str) -> None:
        super().__init__(f"Content-Type is {sent[:100]!r}; send one of {', '.join(FORMATS)}")
        self.known = list(FORMATS)


class UploadCut(MarketError):
    """A body that ended before it was whole."""

    def __init__(self) -> None:
        super().__init__("the connection closed before the whole body had come; send it again")


class CharsetUnknown(MarketError):
    """A character set that is not read here."""

    def __init__(self, charset: str, wanted: str) -> None:
        super().__init__(f"charset {charset[:60]!r} is not read here; use {wanted}")
        self.charset = charset[:60]


class EncodingRefused(MarketError):
    """A file that is not in the character set which it is said to be in."""

    def __init__(self, charset: str, byte_offset: int) -> None:
        super().__init__(
            f"byte {byte_offset} is not {charset}; name the file's own character set, such as "
            "Content-Type: text/csv; charset=windows-1252"
        )
        self.charset = charset
        self.byte_offset = byte_offset


class HeaderRefused(MarketError):
    """A table whose columns are not those that are asked for."""

    def __init__(self, why: str, known: tuple[str, ...]) -> None:
        super().__init__(f"{why}; the columns are {', '.join(known)}")
        self.known = list(known)


class FileUnreadable(MarketError):
    """A file that is not what its Content-Type says."""

    def __init__(self, why: str, line: int | None = None) -> None:
        where = "" if line is None else f"line {line}: "
        super().__init__(f"{where}{why}")
        self.line = line


@dataclass(frozen=True, slots=True)
class Upload:
    """A body on disk, and what its sender said of it."""

    file: IO[bytes] = field(repr=False)
    format: str
    charset: str
    size: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row is rejected: a code, a JSON pointer into the row, words, and the row's own id."""

    code: str
    pointer: str
    detail: str
    name: str | None = None


@dataclass(frozen=True)
class Shape(Generic[T]):
    """What rows look like: their struct, which field names a row, which hold JSON in a table."""

    kind: type[T]
    name: str
    nested: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of all fields, which are the columns of a table."""
        return self.kind.__struct_fields__

    @property
    def required(self) -> tuple[str, ...]:
        """The names of the fields that no row can do without."""
        return tuple(f.name for f in msgspec.structs.fields(self.kind) if f.required)


Batch = list[tuple[int, T | Fault]]
"""Rows by the number of their line."""


@dataclass
class UploadOperation(Operation):
    """An operation whose body is a file in one of the formats, as OpenAPI describes it."""

    def __post_init__(self) -> None:
        whole = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
        self.request_body = RequestBody(
            content={form: OpenAPIMediaType(schema=whole) for form in FORMATS},
            description="A file of at most 2 GiB, one row a line or a table.",
            required=True,
        )


async def spool_upload(request: Request[Any, Any, Any]) -> AsyncIterator[Upload]:
    """Write a request's body to a file without a name, a chunk at a time, and hash it meanwhile.

    The file is gone when the request ends, however it ends.

    Raises:
        UploadTypeUnknown, CharsetUnknown, UploadCut.
    """
    kind, parameters = request.content_type
    form = FORMATS.get(kind.lower())
    if form is None:
        raise UploadTypeUnknown(kind or "missing")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UploadTypeUnknown(f"{kind} compressed")
    charset = _checked_charset(form, parameters.get("charset", "utf-8"))
    digest = hashlib.sha256(f"{form} {charset}\n".encode())
    size = 0
    with tempfile.TemporaryFile() as file:
        waiting: list[bytes] = []
        held = 0
        try:
            async for chunk in request.stream():
                digest.update(chunk)
                size += len(chunk)
                waiting.append(chunk)
                held += len(chunk)
                if held >= CHUNK_BYTES:
                    # In a thread, since a disk can be slow and the loop serves everybody.
                    await anyio.to_thread.run_sync(file.write, b"".join(waiting))
                    waiting, held = [], 0
        except InternalServerException:
            raise UploadCut() from None
        file.write(b"".join(waiting))
        file.seek(0)
        yield Upload(file, form, charset, size, digest.digest())


def read_rows(upload: Upload, shape: Shape[T]) -> Iterator[Batch[T]]:
    """The rows of a file in batches, each row read or at fault.

    Raises:
        EncodingRefused, HeaderRefused, FileUnreadable.
    """
    readers = {"jsonl": _read_jsonl, "csv": _read_csv, "parquet": _read_parquet}
    return readers[upload.format](upload, shape)


def has_nul(value: object) -> bool:
    """Whether a text anywhere in a JSON value holds the one character PostgreSQL cannot keep."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(has_nul(key) or has_nul(inner) for key, inner in value.items())
    return isinstance(value, list) and any(has_nul(inner) for inner in value)


# JSON lines ---------------------------------------------------------------------------------------


def _read_jsonl(upload: Upload, shape: Shape[T]) -> Iterator[Batch[T]]:
    decode = msgspec.json.Decoder(shape.kind).decode
    batch: Batch[T] = []
    for number, line in enumerate(_lines(upload.file), 1):
        if line is None:
            batch.append((number, _too_long()))
        elif line.isspace() or not line:
            continue
        else:
            try:
                batch.append((number, decode(line)))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as wrong:
                batch.append((number, _fault_in(line, wrong, shape.name)))
        if len(batch) >= BATCH_ROWS:
            yield batch
            batch = []
    yield batch


def _lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """Lines without their ends; `None` for one that is too long, whose bytes are skipped."""
    rest = file.read(3).removeprefix(codecs.BOM_UTF8)
    is_skipping = False
    while chunk := file.read(CHUNK_BYTES):
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        if is_skipping and lines:
            lines[0] = b""
            is_skipping = False
            yield None
            lines = lines[1:]
        for line in lines:
            yield line if len(line) <= MAX_ROW_BYTES else None
        if is_skipping or len(rest) > MAX_ROW_BYTES:
            is_skipping = True
            rest = b""
    if is_skipping:
        yield None
    elif rest:
        yield rest


def _fault_in(line: bytes, wrong: Exception, name: str) -> Fault:
    """What is wrong with a line, and what it calls itself if that much of it can be read."""
    try:
        line.decode()
    except UnicodeDecodeError as no_text:
        return _fault_of(no_text, None)
    try:
        named = _name_of(msgspec.json.decode(line), name)
    except (msgspec.MsgspecError, RecursionError):
        named = None
    return _fault_of(wrong, named)


def _name_of(row: object, name: str) -> str | None:
    found = row.get(name) if isinstance(row, dict) else None
    return found[:200].replace("\x00", "\ufffd") if isinstance(found, str) else None


_AT = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_NAMED = re.compile(r"(missing required|unknown) field `(.*)`", re.DOTALL)


def _fault_of(wrong: Exception, name: str | None) -> Fault:
    """The code, the place and the words of what msgspec found wrong."""
    if isinstance(wrong, UnicodeDecodeError):
        return Fault("not_utf8", "", f"byte {wrong.start} of the row is not UTF-8", name)
    if isinstance(wrong, RecursionError):
        return Fault("too_deep", "", "it is nested deeper than can be kept", name)
    text = str(wrong)
    if not isinstance(wrong, msgspec.ValidationError):
        return Fault("malformed_json", "", text, name)
    at = _AT.search(text)
    path = at.group(1) if at else ""
    words = text[: at.start()] if at else text
    # Below an object without a shape of its own, msgspec names no key any more.
    path = path.split("[...]")[0]
    pointer = "".join(f"/{part}" for part in re.split(r"[.\[\]]+", path) if part)
    named = _NAMED.search(words)
    if named:
        key = named.group(2).replace("~", "~0").replace("/", "~1")
        code = "missing_field" if named.group(1).startswith("missing") else "unknown_field"
        return Fault(code, f"{pointer}/{key}"[:200], words[:300], name)
    if "of length <=" in words:
        code = "too_long"
    elif "of length >=" in words:
        code = "blank"
    elif re.search(r"out of range|[<>]=? ", words):
        code = "out_of_range"
    else:
        code = "wrong_type"
    return Fault(code, pointer, words[:300], name)


def _too_long() -> Fault:
    return Fault("too_long", "", f"a row has at most {MAX_ROW_BYTES} bytes")


# CSV ----------------------------------------------------------------------------------------------


def _read_csv(upload: Upload, shape: Shape[T]) -> Iterator[Batch[T]]:
    # For the whole process, which reads no other CSV; a cell is never longer than a row may be.
    csv.field_size_limit(MAX_ROW_BYTES)
    reader = csv.reader(_decoded(upload), strict=True)
    batch: Batch[T] = []
    with _csv_refusals(reader):
        header = next(reader, [])
    _check_columns(header, shape)
    while True:
        number = reader.line_num + 1
        with _csv_refusals(reader):
            cells = next(reader, None)
        if cells is None:
            break
        if not cells:
            continue
        if len(cells) != len(header):
            detail = f"the row has {len(cells)} cells and the header {len(header)}"
            batch.append((number, Fault("cells", "", detail)))
        else:
            row = {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}
            batch.append((number, _converted(row, shape, strict=False)))
        if len(batch) >= BATCH_ROWS:
            yield batch
            batch = []
    yield batch


@contextmanager
def _csv_refusals(reader: Any) -> Iterator[None]:
    try:
        yield
    except csv.Error as wrong:
        raise FileUnreadable(f"not CSV as RFC 4180 has it: {wrong}", reader.line_num) from None


def _decoded(upload: Upload) -> Iterator[str]:
    """The file's lines as text, ends kept; a byte order mark is taken off."""
    decoder = codecs.getincrementaldecoder(upload.charset)("strict")
    rest = ""
    read = 0
    is_first = True
    while True:
        chunk = upload.file.read(CHUNK_BYTES)
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeError as wrong:
            # Without a place it is a missing byte order mark, whose place is the beginning.
            start = wrong.start if isinstance(wrong, UnicodeDecodeError) else 0
            raise EncodingRefused(upload.charset, read - pending + start) from None
        read += len(chunk)
        if is_first and text:
            text = text.removeprefix("\ufeff")
            is_first = False
        lines = (rest + text).split("\n")
        rest = lines.pop()
        if len(rest) > 8 * MAX_ROW_BYTES:
            raise FileUnreadable(f"a line is longer than {8 * MAX_ROW_BYTES} characters")
        for line in lines:
            yield f"{line}\n"
        if not chunk:
            break
    if rest:
        yield rest


def _checked_charset(form: str, charset: str) -> str:
    name = charset.strip().lower().replace("_", "-")
    if form != "csv":
        if name not in ("utf-8", "utf8"):
            raise CharsetUnknown(charset, "utf-8, as JSON is written")
        return "utf-8"
    if not CHARSETS.fullmatch(name):
        raise CharsetUnknown(charset, "utf-8, utf-16, iso-8859-1, windows-1252 or another table's")
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise CharsetUnknown(charset, "utf-8, iso-8859-1, windows-1252 or another") from None


def _check_columns(columns: list[str], shape: Shape[T]) -> None:
    known = shape.fields
    if not any(name in known for name in columns):
        raise HeaderRefused("the first line is not a header", known)
    for name in columns:
        if name not in known:
            raise HeaderRefused(f"there is no column {name[:60]!r}", known)
    if len(set(columns)) != len(columns):
        raise HeaderRefused("a column is named twice", known)
    for name in shape.required:
        if name not in columns:
            raise HeaderRefused(f"column {name} is missing", known)


# Parquet ------------------------------------------------------------------------------------------


def _read_parquet(upload: Upload, shape: Shape[T]) -> Iterator[Batch[T]]:
    # Imported here, since it takes memory that a process without such uploads can do without.
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(upload.file, pre_buffer=False, buffer_size=CHUNK_BYTES)
        _check_columns(table.schema_arrow.names, shape)
        for index in range(table.num_row_groups):
            if table.metadata.row_group(index).total_byte_size > MAX_ROW_GROUP_BYTES:
                raise FileUnreadable(
                    f"row group {index} is larger than {MAX_ROW_GROUP_BYTES} bytes; write smaller "
                    "row groups"
                )
        number = 0
        for columns in table.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
            batch: Batch[T] = []
            for given in columns.to_pylist():
                number += 1
                row = {name: value for name, value in given.items() if value is not None}
                batch.append((number, _converted(row, shape, strict=True)))
            yield batch
    except (pyarrow.ArrowException, OSError) as wrong:
        raise FileUnreadable(f"not Parquet: {str(wrong)[:200]}") from None


# Rows of tables -----------------------------------------------------------------------------------


def _converted(row: dict[str, Any], shape: Shape[T], *, strict: bool) -> T | Fault:
    """A row of named cells as a struct; cells of nested fields may hold JSON text."""
    for name in shape.nested:
        cell = row.get(name)
        if isinstance(cell, str):
            try:
                row[name] = msgspec.json.decode(cell)
            except (msgspec.MsgspecError, RecursionError, UnicodeError) as wrong:
                detail = f"the cell holds no readable JSON: {wrong}"
                return Fault("malformed_json", f"/{name}", detail, _name_of(row, shape.name))
        elif cell is not None and not _is_json(cell):
            detail = "it holds values that JSON has no word for"
            return Fault("wrong_type", f"/{name}", detail, _name_of(row, shape.name))
    try:
        return msgspec.convert(row, shape.kind, strict=strict)
    except msgspec.ValidationError as wrong:
        return _fault_of(wrong, _name_of(row, shape.name))


def _is_json(value: object) -> bool:
    if isinstance(value, Mapping):
        inner = cast(Mapping[object, object], value)
        return all(isinstance(key, str) and _is_json(one) for key, one in inner.items())
    if isinstance(value, list):
        return all(_is_json(one) for one in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | bool | int)
