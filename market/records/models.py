"""The tables of published keys and of attestations that were given out."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id


class AttestationKey(Base):
    """A public key under which attestations were signed. Rows are only ever added, so that what
    was signed under an earlier secret can still be checked.
    """

    __tablename__ = "attestation_key"

    id: Mapped[str] = mapped_column(primary_key=True)
    public: Mapped[bytes] = mapped_column(LargeBinary)
    first_used_at: Mapped[datetime]


class Attestation(Base):
    """One attestation as it was given out, to the byte."""

    __tablename__ = "attestation"
    __table_args__ = (Index("ix_attestation_person_id", "person_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    person_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    key_id: Mapped[str] = mapped_column(ForeignKey("market.attestation_key.id"))
    document: Mapped[str]
    signature: Mapped[str]
    issued_at: Mapped[datetime]
