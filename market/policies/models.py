"""Tables of policies: versions that never change, and which one is the default."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json, new_id


class PolicyVersion(Base):
    """One version of a named policy. The database refuses to change or remove a row."""

    __tablename__ = "policy"
    __table_args__ = (
        UniqueConstraint("name", "version_no"),
        CheckConstraint("name ~ '^[a-z][a-z0-9-]{0,62}$'", name="name"),
        CheckConstraint("version_no > 0", name="version_no"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    name: Mapped[str]
    version_no: Mapped[int]
    document: Mapped[Json]
    digest: Mapped[str]
    reason: Mapped[str]
    created_at: Mapped[datetime]
    author_id: Mapped[UUID | None] = mapped_column(default=None)


class PolicyDefault(Base):
    """The policy of runs that name none; one row, under the name `default`."""

    __tablename__ = "policy_default"
    __table_args__ = (CheckConstraint("name = 'default'", name="name"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    policy_id: Mapped[UUID] = mapped_column(ForeignKey("market.policy.id"))
    since: Mapped[datetime]
    version: Mapped[int] = mapped_column(default=1)


class PolicyApproval(Base):
    """A second person's consent to a policy version; it is given once, and stays."""

    __tablename__ = "policy_approval"
    __table_args__ = (CheckConstraint("length(btrim(note)) > 0", name="note"),)

    policy_id: Mapped[UUID] = mapped_column(ForeignKey("market.policy.id"), primary_key=True)
    approver_id: Mapped[UUID]
    note: Mapped[str]
    at: Mapped[datetime]


class PolicyUse(Base):
    """From when on runs obeyed a policy: all that name none, or those of one project.

    `policy_id` is null where a project went back to whatever the default is. Rows are only added.
    """

    __tablename__ = "policy_use"
    __table_args__ = (
        CheckConstraint("how in ('chosen', 'returned', 'promoted')", name="how"),
        Index("ix_policy_use_project_id", "project_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    how: Mapped[str]
    reason: Mapped[str]
    since: Mapped[datetime]
    policy_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.policy.id"), default=None)
    previous_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.policy.id"), default=None)
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.project.id"), default=None)
    actor_id: Mapped[UUID | None] = mapped_column(default=None)
