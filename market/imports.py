"""What came in at once: an import, the verdict on each of its rows, and the way into the tables.

Rows are copied into a table that lasts as long as the transaction, and from there one statement
moves those that can be taken. So an import is whole or has not happened, whatever dies meanwhile.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from litestar import Response
from psycopg import Copy
from sqlalchemy import CheckConstraint, ForeignKey, Index, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from market.db import Base, new_id
from market.errors import MarketError
from market.http import Wire, request_context, wire_id, wire_ids
from market.once import run_once
from market.uploads import Fault, Upload

KINDS = ("tasks", "interests", "experts", "items")
VERDICTS = ("created", "unchanged", "conflict", "rejected")
SHOWN = 20
"""How many rows that were not taken the reply to an upload shows; all are under its verdicts."""


class ImportRunning(MarketError):
    """An import into the same place that has not ended yet."""

    def __init__(self) -> None:
        super().__init__("another import into the same place is running; send this one after it")


class ImportNotFound(MarketError):
    """No import of the caller's has this id."""

    def __init__(self, import_id: UUID) -> None:
        super().__init__("there is no such import")
        self.import_id = import_id


class BulkImport(Base):
    """One upload that was taken in: what it was, and how many rows got which verdict."""

    __tablename__ = "bulk_import"
    __table_args__ = (
        CheckConstraint(f"kind in {KINDS}", name="kind"),
        Index("ix_bulk_import_project_id", "project_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    kind: Mapped[str]
    format: Mapped[str]
    bytes: Mapped[int]
    started_at: Mapped[datetime]
    organisation_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("market.organisation.id"), default=None
    )
    project_id: Mapped[UUID | None] = mapped_column(default=None)
    rows: Mapped[int] = mapped_column(default=0)
    created: Mapped[int] = mapped_column(default=0)
    unchanged: Mapped[int] = mapped_column(default=0)
    conflicts: Mapped[int] = mapped_column(default=0)
    rejected: Mapped[int] = mapped_column(default=0)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)


class ImportRow(Base):
    """The verdict on one row; a row that made a task has it on the task instead.

    Units: `line` counts from 1, as an editor counts the lines of the file, or as rows of Parquet.
    """

    __tablename__ = "import_row"
    __table_args__ = (CheckConstraint(f"verdict in {VERDICTS}", name="verdict"),)

    import_id: Mapped[UUID] = mapped_column(ForeignKey("market.bulk_import.id"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True)
    organisation_id: Mapped[UUID | None]
    verdict: Mapped[str]
    external_id: Mapped[str | None]
    code: Mapped[str | None]
    pointer: Mapped[str | None]
    detail: Mapped[str | None]


class RowOut(Wire):
    """The verdict on one row; code, pointer and detail say why it was not taken."""

    line: int
    verdict: str
    external_id: str | None
    code: str | None = None
    pointer: str | None = None
    detail: str | None = None


class ImportOut(Wire):
    """An import: how many rows got which verdict, the first that were not taken, and all of them.

    Units: `seconds` from the first row read to the last verdict.
    """

    id: str
    kind: str
    format: str
    project_id: str | None
    bytes: int
    rows: int
    created: int
    unchanged: int
    conflicts: int
    rejected: int
    first_refused: list[RowOut]
    verdicts: str
    started_at: datetime
    ended_at: datetime | None
    seconds: float | None


def start_import(
    session: Session,
    kind: str,
    upload: Upload,
    *,
    at: datetime,
    organisation_id: UUID | None,
    project_id: UUID | None,
) -> BulkImport:
    """Announce an import; until the transaction ends no other goes to the same place.

    Two at once with the same rows in another order would wait for each other for ever.

    Raises:
        ImportRunning.
    """
    place = text("select pg_try_advisory_xact_lock(hashtextextended(:name, 11))")
    if not session.scalar(place, {"name": f"{project_id or kind}"}):
        raise ImportRunning()
    started = BulkImport(
        kind=kind,
        format=upload.format,
        bytes=upload.size,
        started_at=at,
        organisation_id=organisation_id,
        project_id=project_id,
    )
    session.add(started)
    session.flush()
    return started


@contextmanager
def staging(session: Session, import_id: UUID, columns: str) -> Iterator[str]:
    """A table of the transaction's own to copy rows into, by its name."""
    name = f"staged_{import_id.hex}"
    session.execute(text(f"create temporary table {name} ({columns}) on commit drop"))
    yield name
    # Dropped at once, since a transaction of many imports would hold the rows of all of them.
    session.execute(text(f"drop table {name}"))


@contextmanager
def copying(session: Session, table: str, columns: str) -> Iterator[Copy]:
    """A COPY into a table, to write text lines to."""
    driver = session.connection().connection.driver_connection
    if driver is None:
        raise RuntimeError("the transaction has lost its connection")
    with driver.cursor() as cursor:
        with cursor.copy(f"copy {table} ({columns}) from stdin") as copy:
            yield copy
        cursor.execute(f"analyze {table}")


def copied(value: str | None) -> str:
    """A text as COPY reads it."""
    if value is None:
        return "\\N"
    return value.translate(_ESCAPES)


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def copied_fault(line: int, fault: Fault) -> str:
    """What COPY reads of a row at fault: line, external id, code, pointer and detail."""
    name = fault.name.replace("\x00", "\ufffd") if fault.name is not None else None
    words = (name, fault.code, fault.pointer, fault.detail.replace("\x00", "\ufffd"))
    return "\t".join((str(line), *(copied(word) for word in words)))


def end_import(
    session: Session, found: BulkImport, *, rows: int, created: int, at: datetime
) -> None:
    """Count the verdicts, and say that the import is over."""
    rows_by_verdict = session.execute(
        text("select verdict, count(*) from market.import_row where import_id = :id group by 1"),
        {"id": found.id},
    )
    counts = {str(row[0]): int(row[1]) for row in rows_by_verdict}
    found.rows = rows
    found.created = created
    found.unchanged = counts.get("unchanged", 0)
    found.conflicts = counts.get("conflict", 0)
    found.rejected = counts.get("rejected", 0)
    found.ended_at = at
    session.flush()


def import_out(session: Session, found: BulkImport) -> ImportOut:
    """An import as it travels."""
    refused = session.scalars(
        select(ImportRow)
        .where(ImportRow.import_id == found.id, ImportRow.verdict.in_(("rejected", "conflict")))
        .order_by(ImportRow.line)
        .limit(SHOWN)
    )
    took = found.ended_at - found.started_at if found.ended_at else None
    return ImportOut(
        id=wire_id("imp", found.id),
        kind=found.kind,
        format=found.format,
        project_id=wire_ids("prj", found.project_id),
        bytes=found.bytes,
        rows=found.rows,
        created=found.created,
        unchanged=found.unchanged,
        conflicts=found.conflicts,
        rejected=found.rejected,
        first_refused=[
            RowOut(
                line=row.line,
                verdict=row.verdict,
                external_id=row.external_id,
                code=row.code,
                pointer=row.pointer,
                detail=row.detail,
            )
            for row in refused
        ],
        verdicts=f"/v1/imports/{wire_id('imp', found.id)}/verdicts",
        started_at=found.started_at,
        ended_at=found.ended_at,
        seconds=took.total_seconds() if took else None,
    )


def take_in(upload: Upload, act: Callable[[], ImportOut]) -> Response[bytes]:
    """Run an import once under its key: the body's digest was taken while it was spooled.

    Raises:
        IdempotencyInFlight, IdempotencyKeyReused.
    """
    context = replace(request_context.get(), body_digest=upload.digest)
    return run_once(context, act, 201)
