"""The tables of the audit log: its entries, and the chain of digests over them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    SmallInteger,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from market.audit.rules import Access
from market.db import Base, new_id


class AuditEntry(Base):
    """One access: who asked for what, and whom the answer told of. Rows are only ever added."""

    __tablename__ = "audit_entry"
    __table_args__ = (
        CheckConstraint(f"kind in {tuple(one.value for one in Access)}", name="kind"),
        Index("ix_audit_entry_at", "at"),
        Index("ix_audit_entry_actor_id", "actor_id", "id"),
        Index("ix_audit_entry_people", "people", postgresql_using="gin"),
        Index("ix_audit_entry_request_id", "request_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    at: Mapped[datetime]
    kind: Mapped[str]
    actor_id: Mapped[UUID]
    part: Mapped[str]
    key_id: Mapped[UUID]
    method: Mapped[str]
    route: Mapped[str]
    path: Mapped[str]
    query: Mapped[str]
    request_id: Mapped[str]
    organisation_id: Mapped[UUID | None] = mapped_column(default=None)
    status: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    people: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid), default_factory=list)


class AuditLink(Base):
    """One entry's place in the chain: the digest covers the entry and every one before it."""

    __tablename__ = "audit_link"

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    entry_id: Mapped[UUID] = mapped_column(ForeignKey("market.audit_entry.id"), unique=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
