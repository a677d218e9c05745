"""Tables of attempts and of what target models answered."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, Numeric, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from market.attempts.rules import ATTEMPT
from market.db import Base, Json, new_id
from market.panels.rules import STUMP_RULES


class Attempt(Base):
    """One question put to a target model, with the answer that its expert holds to be right."""

    __tablename__ = "attempt"
    __table_args__ = (
        CheckConstraint(f"state in {ATTEMPT.states}", name="state"),
        CheckConstraint("reserved_minor >= 0", name="reserved_minor"),
        CheckConstraint("(state = 'failed') = (failure_code is not null)", name="failure_code"),
        Index("ix_attempt_offer_id", "offer_id"),
        Index("ix_attempt_project_id", "project_id", "id"),
        # The model answers one question of an offer at a time, so that a cap means something.
        Index(
            "uq_attempt_sent",
            "offer_id",
            unique=True,
            postgresql_where=text("state in ('drafted', 'sent') and panel_of is null"),
        ),
        # The same question to another model of the panel is an attempt of its own, one for each.
        Index(
            "uq_attempt_panel_of",
            "panel_of",
            "target_model_id",
            unique=True,
            postgresql_where=text("panel_of is not null"),
        ),
        CheckConstraint(f"stump_rule in {STUMP_RULES}", name="stump_rule"),
        CheckConstraint("panel_of is null or stump_rule is null", name="panel_of"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    task_id: Mapped[UUID] = mapped_column(ForeignKey("market.task.id"))
    offer_id: Mapped[UUID] = mapped_column(ForeignKey("market.offer.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    target_model_id: Mapped[UUID] = mapped_column(ForeignKey("market.target_model.id"))
    prompt: Mapped[str]
    reference: Mapped[str]
    parameters: Mapped[Json]
    """What the model is asked under: model name, samples, tokens, seed, temperature."""
    created_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(default="drafted")
    sent_at: Mapped[datetime | None] = mapped_column(default=None)
    responded_at: Mapped[datetime | None] = mapped_column(default=None)
    claims_stump: Mapped[bool | None] = mapped_column(default=None)
    claimed_at: Mapped[datetime | None] = mapped_column(default=None)
    judge_missed: Mapped[int | None] = mapped_column(default=None)
    """Samples in which the automatic judge reads another answer than the reference."""
    failure_code: Mapped[str | None] = mapped_column(default=None)
    failure: Mapped[str | None] = mapped_column(default=None)
    reserved_minor: Mapped[Decimal] = mapped_column(Numeric, default=Decimal(0))
    """What this attempt still holds of its model's cost cap."""
    leased_until: Mapped[datetime | None] = mapped_column(default=None)
    """Until when one worker alone speaks to the model for it."""
    stump_rule: Mapped[str | None] = mapped_column(default=None)
    """Which models a stump must defeat, where a panel was asked; null where there was none."""
    panel_of: Mapped[UUID | None] = mapped_column(ForeignKey("market.attempt.id"), default=None)
    """The attempt at the target model that this one goes beside."""
    version: Mapped[int] = mapped_column(default=1)


class AttemptResponse(Base):
    """One sample of a target model's answer: the very bytes, with digests that PostgreSQL checks.

    Rows are only ever added.
    """

    __tablename__ = "attempt_response"
    __table_args__ = (
        CheckConstraint("request_digest = sha256(request)", name="request_digest"),
        CheckConstraint("response_digest = sha256(raw)", name="response_digest"),
        CheckConstraint("k >= 0", name="k"),
    )

    attempt_id: Mapped[UUID] = mapped_column(ForeignKey("market.attempt.id"), primary_key=True)
    k: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    organisation_id: Mapped[UUID]
    expert_id: Mapped[UUID]
    output: Mapped[str]
    status: Mapped[int]
    latency_ms: Mapped[int]
    tokens_in: Mapped[int | None]
    tokens_out: Mapped[int | None]
    cost_minor: Mapped[Decimal] = mapped_column(Numeric)
    request: Mapped[bytes] = mapped_column(LargeBinary)
    request_digest: Mapped[bytes] = mapped_column(LargeBinary)
    raw: Mapped[bytes] = mapped_column(LargeBinary)
    response_digest: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[datetime]
    finish_reason: Mapped[str | None] = mapped_column(default=None)
    model_version: Mapped[str | None] = mapped_column(default=None)
