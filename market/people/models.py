"""Tables of people, organisations, memberships and keys."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.people.rules import CLAIM_KINDS


class Organisation(Base):
    """A lab: whoever posts projects and pays for them."""

    __tablename__ = "organisation"

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    name: Mapped[str]
    created_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(default=1)


class Person(Base):
    """Someone who can come in."""

    __tablename__ = "person"
    __table_args__ = (Index("uq_person_email", text("lower(email)"), unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    name: Mapped[str]
    email: Mapped[str]
    created_at: Mapped[datetime]


class Membership(Base):
    """A part that a person plays; as a lab, for one organisation."""

    __tablename__ = "membership"
    __table_args__ = (
        UniqueConstraint(
            "person_id", "part", "organisation_id", postgresql_nulls_not_distinct=True
        ),
        CheckConstraint("part in ('lab', 'expert', 'reviewer', 'ops')", name="part"),
        CheckConstraint("(part = 'lab') = (organisation_id is not null)", name="lab_organisation"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    person_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    part: Mapped[str]
    created_at: Mapped[datetime]
    organisation_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("market.organisation.id"), default=None
    )
    ended_at: Mapped[datetime | None] = mapped_column(default=None)


class ApiKey(Base):
    """A key of a person's, for one part; its secret is kept as a hash."""

    __tablename__ = "api_key"
    __table_args__ = (Index("ix_api_key_membership_id", "membership_id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    membership_id: Mapped[UUID] = mapped_column(ForeignKey("market.membership.id"))
    name: Mapped[str]
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None] = mapped_column(default=None)
    revoked_at: Mapped[datetime | None] = mapped_column(default=None)


class Visit(Base):
    """Someone who came into the console with a key: a browser's cookie stands for that key."""

    __tablename__ = "visit"
    __table_args__ = (Index("ix_visit_key_id", "key_id"),)

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    key_id: Mapped[UUID] = mapped_column(ForeignKey("market.api_key.id"))
    began_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class IdentityClaim(Base):
    """Something that tells who a person is, kept as a hash: whoever shares one is the same hand.

    An institution is shared by many hands, and only ties them. The database adds the claim of an
    e-mail address by itself.
    """

    __tablename__ = "identity_claim"
    __table_args__ = (
        CheckConstraint(f"kind in {CLAIM_KINDS}", name="kind"),
        Index("ix_identity_claim_kind_digest", "kind", "digest"),
    )

    person_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    source: Mapped[str]
    at: Mapped[datetime]
