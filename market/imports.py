"""What came in at once: an import, and the verdict on each of its rows."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id

KINDS = ("tasks", "interests", "experts")
VERDICTS = ("created", "unchanged", "conflict", "rejected")


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
