"""The table of disputes about time."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.disputes.rules import DISPUTE, KINDS


class Dispute(Base, kw_only=True):
    """One disagreement about a range of time on one offer, its answer, its decision, its appeal.

    `claimed_s` is what it is about: paid seconds that a lab contests, or seconds that an expert
    asks for. `awarded_s` of them the first decision gives the expert, `final_s` the last one. Each
    deadline is a column, so that a worker that dies loses none.

    Units: seconds.
    """

    __tablename__ = "dispute"
    __table_args__ = (
        CheckConstraint(f"state in {DISPUTE.states}", name="state"),
        CheckConstraint(f"kind in {KINDS}", name="kind"),
        CheckConstraint("(kind = 'hours') = (opened_part = 'lab')", name="opened_part"),
        CheckConstraint("ends_at > starts_at and claimed_s > 0", name="range"),
        CheckConstraint("length(btrim(statement)) >= 20", name="statement"),
        CheckConstraint(
            "awarded_s between 0 and claimed_s and final_s between awarded_s and claimed_s",
            name="awarded_s",
        ),
        # Nothing is withheld but by a person, who is no side of it, and says why.
        CheckConstraint(
            "awarded_s is null or awarded_s = claimed_s"
            " or (decided_by is not null and coalesce(length(btrim(decision_note)), 0) >= 20)",
            name="decided_by",
        ),
        CheckConstraint(
            "final_s is null or final_s = claimed_s or appealed_at is null"
            " or (final_by is not null and coalesce(length(btrim(final_note)), 0) >= 20)",
            name="final_by",
        ),
        CheckConstraint("decided_by <> opened_by or is_conceded", name="own_case"),
        CheckConstraint("final_by <> opened_by and final_by <> decided_by", name="second_person"),
        Index("ix_dispute_organisation_id", "organisation_id", "id"),
        Index("ix_dispute_expert_id", "expert_id", "id"),
        Index("ix_dispute_offer_id", "offer_id"),
        Index(
            "ix_dispute_due",
            "due_at",
            postgresql_where=text("state in ('open', 'answered', 'decided', 'appealed')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    offer_id: Mapped[UUID] = mapped_column(ForeignKey("market.offer.id"))
    kind: Mapped[str]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    claimed_s: Mapped[int]
    reason_code: Mapped[str]
    statement: Mapped[str]
    evidence: Mapped[list[str]] = mapped_column(ARRAY(Text), default_factory=list)
    opened_by: Mapped[UUID]
    opened_part: Mapped[str]
    opened_at: Mapped[datetime]
    due_at: Mapped[datetime]
    """When its present state ends by itself: the answer's, the decision's or the appeal's time."""
    state: Mapped[str] = mapped_column(default="open")
    response: Mapped[str | None] = mapped_column(default=None)
    responded_by: Mapped[UUID | None] = mapped_column(default=None)
    responded_at: Mapped[datetime | None] = mapped_column(default=None)
    is_conceded: Mapped[bool] = mapped_column(default=False)
    awarded_s: Mapped[int | None] = mapped_column(default=None)
    decided_by: Mapped[UUID | None] = mapped_column(default=None)
    """Who decided; null, when the time for it ran out and it was the expert's by that."""
    decided_at: Mapped[datetime | None] = mapped_column(default=None)
    decision_note: Mapped[str | None] = mapped_column(default=None)
    appealed_at: Mapped[datetime | None] = mapped_column(default=None)
    appeal: Mapped[str | None] = mapped_column(default=None)
    final_s: Mapped[int | None] = mapped_column(default=None)
    final_by: Mapped[UUID | None] = mapped_column(default=None)
    final_at: Mapped[datetime | None] = mapped_column(default=None)
    final_note: Mapped[str | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)
