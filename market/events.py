"""What has happened: the outbox and the audit trail in one table, and the history of every state.

An event is written in the transaction that makes it true. The relay hands the jobs that follow it
to the queues afterwards, so that nothing follows from what was rolled back, and nothing is lost
when a process dies in between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, cast
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CursorResult,
    ForeignKey,
    Identity,
    Index,
    Table,
    Text,
    insert,
    inspect,
    text,
)
from sqlalchemy.orm import InstanceState, Mapped, Session, mapped_column
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.exc import StaleDataError

from market.db import Base, Json, new_id
from market.moves import move_statement
from market.states import Machine


class Event(StrEnum):
    """Everything that can follow from something: noun and past participle."""

    ORGANISATION_JOINED = "organisation.joined"
    PERSON_JOINED = "person.joined"
    EXPERT_CHANGED = "expert.changed"
    STANDING_CHANGED = "standing.changed"
    TIER_ANNOUNCED = "tier.announced"
    TIER_TAKEN_BACK = "tier.taken_back"
    DEPARTURE_BEGUN = "departure.begun"
    DEPARTURE_CHANGED = "departure.changed"
    DEPARTURE_DONE = "departure.done"
    DEPARTURE_CALLED_OFF = "departure.called_off"
    IDENTITY_CLAIMED = "identity.claimed"
    ADMISSION_ASKED = "admission.asked"
    ADMISSION_ADMITTED = "admission.admitted"
    ADMISSION_ONBOARDED = "admission.onboarded"
    ADMISSION_SERVED = "admission.served"
    ADMISSION_LAPSED = "admission.lapsed"
    ADMISSION_COMPENSATED = "admission.compensated"
    QUALIFICATION_INVITED = "qualification.invited"
    QUALIFICATION_GRANTED = "qualification.granted"
    QUALIFICATION_DENIED = "qualification.denied"
    QUALIFICATION_EXPIRED = "qualification.expired"
    QUALIFICATION_REVOKED = "qualification.revoked"
    QUALIFICATION_REGRADED = "qualification.regraded"
    ITEMS_IMPORTED = "items.imported"
    ITEM_FLAGGED = "item.flagged"
    ITEM_REKEYED = "item.rekeyed"
    ITEM_WITHDRAWN = "item.withdrawn"
    SITTING_STARTED = "sitting.started"
    SITTING_ENDED = "sitting.ended"
    SITTING_REGRADED = "sitting.regraded"
    PROJECT_CHANGED = "project.changed"
    PROJECT_LIVE = "project.live"
    PROJECT_PAUSED = "project.paused"
    PROJECT_DRAINING = "project.draining"
    PROJECT_CLOSED = "project.closed"
    TASKS_IMPORTED = "tasks.imported"
    INTERESTS_IMPORTED = "interests.imported"
    EXPERTS_IMPORTED = "experts.imported"
    TASK_QUEUED = "task.queued"
    TASK_HELD = "task.held"
    TASK_CANCELLED = "task.cancelled"
    TASK_RESOLVED = "task.resolved"
    OVERLAP_CHANGED = "overlap.changed"
    ELIGIBILITY_CHANGED = "eligibility.changed"
    POLICY_PUBLISHED = "policy.published"
    POLICY_APPROVED = "policy.approved"
    POLICY_CHOSEN = "policy.chosen"
    EXPERIMENT_STARTED = "experiment.started"
    EXPERIMENT_ENDED = "experiment.ended"
    PREVIEW_REQUESTED = "policy_preview.requested"
    RUN_REQUESTED = "matching_run.requested"
    RUN_FINISHED = "matching_run.finished"
    RUN_CHECK_REQUESTED = "matching_run.check_requested"
    OFFER_CREATED = "offer.created"
    OFFER_ACCEPTED = "offer.accepted"
    OFFER_DECLINED = "offer.declined"
    OFFER_TIMED_OUT = "offer.timed_out"
    OFFER_RESCINDED = "offer.rescinded"
    OFFER_CANCELED = "offer.canceled"
    OFFER_RELEASED = "offer.released"
    OFFER_ABANDONED = "offer.abandoned"
    OFFER_COMPLETED = "offer.completed"
    RETURN_REQUEST_ASKED = "return_request.asked"
    RETURN_REQUEST_ANSWERED = "return_request.answered"
    RETURN_REQUEST_ENDED = "return_request.ended"
    TASK_REPAIR_OPENED = "task_repair.opened"
    TASK_REPAIR_ENDED = "task_repair.ended"
    SESSION_STARTED = "session.started"
    SESSION_PAUSED = "session.paused"
    SESSION_IDLE = "session.idle"
    SESSION_IDLE_WARNING = "session.idle_warning"
    SESSION_ENDED = "session.ended"
    TIME_ENTRY_CHANGED = "time_entry.changed"
    ATTEMPT_SENT = "attempt.sent"
    ATTEMPT_RESPONDED = "attempt.responded"
    ATTEMPT_FAILED = "attempt.failed"
    SUBMISSION_SUBMITTED = "submission.submitted"
    SUBMISSION_ACCEPTED = "submission.accepted"
    SUBMISSION_REJECTED = "submission.rejected"
    SUBMISSION_PARTIALLY_ACCEPTED = "submission.partially_accepted"
    SUBMISSION_REWORK_REQUESTED = "submission.rework_requested"
    SUBMISSION_SCREENED_OUT = "submission.screened_out"
    SUBMISSION_UNJUDGED = "submission.unjudged"
    SUBMISSION_RETURNED = "submission.returned"
    REVIEW_ASKED = "review.asked"
    REVIEW_CLAIMED = "review.claimed"
    REVIEW_EXPIRED = "review.expired"
    REVIEW_WAITING = "review.waiting"
    REVIEW_VOTED = "review.voted"
    REVIEW_OVERTURNED = "review.overturned"
    VERDICT_RECORDED = "verdict.recorded"
    VERDICT_CORRECTED = "verdict.corrected"
    FIX_STOOD = "fix.stood"
    FIX_WITHDRAWN = "fix.withdrawn"
    SNAPSHOT_TAKEN = "snapshot.taken"
    MESSAGE_ASKED = "message.asked"
    THREAD_OPENED = "thread.opened"
    THREAD_ANSWERED = "thread.answered"
    THREAD_RESOLVED = "thread.resolved"
    THREAD_REOPENED = "thread.reopened"
    APPEAL_FILED = "appeal.filed"
    APPEAL_ASSIGNED = "appeal.assigned"
    APPEAL_DECIDED = "appeal.decided"
    APPEAL_SLA_MISSED = "appeal.sla_missed"
    FUNDING_REQUESTED = "funding.requested"
    FUNDING_INVOICED = "funding.invoiced"
    FUNDING_OVERDUE = "funding.overdue"
    INVOICE_VOID_REQUESTED = "invoice.void_requested"
    FUNDING_SUCCEEDED = "funding.succeeded"
    FUNDING_FAILED = "funding.failed"
    BUDGET_ALLOCATED = "budget.allocated"
    BUDGET_LOW = "budget.low"
    BUDGET_EXHAUSTED = "budget.exhausted"
    EARNING_ACCRUED = "earning.accrued"
    EARNING_APPROVED = "earning.approved"
    PAY_DISPUTE_OPENED = "pay_dispute.opened"
    PAY_DISPUTE_CHANGED = "pay_dispute.changed"
    PAY_DISPUTE_DECIDED = "pay_dispute.decided"
    REFUND_REQUESTED = "refund.requested"
    REFUND_SENT = "refund.sent"
    REFUND_REFUSED = "refund.refused"
    PAYEE_REQUESTED = "payee.requested"
    PAYEE_OPENED = "payee.opened"
    PAYEE_READY = "payee.ready"
    PAYEE_NOT_READY = "payee.not_ready"
    PAYOUT_RUN_REQUESTED = "payout_run.requested"
    PAYOUT_RUN_STOPPED = "payout_run.stopped"
    PAYOUT_BATCHED = "payout.batched"
    PAYOUTS_LEFT = "payout.left_to_send"
    PAYOUT_HELD = "payout.held"
    PAYOUT_ESCALATED = "payout.escalated"
    PAYOUT_TRANSFERRED = "payout.transferred"
    PAYOUT_ON_ITS_WAY = "payout.on_its_way"
    PAYOUT_PAID = "payout.paid"
    PAYOUT_FAILED = "payout.failed"
    PAYOUT_RETURNED = "payout.returned"
    PAYOUT_CANCELLED = "payout.cancelled"
    PAYOUT_WITHDRAWN = "payout.withdrawn"
    PAYOUT_RECALL_REQUESTED = "payout.recall_requested"
    PAYOUT_RECALLED = "payout.recalled"
    PAYOUT_REVERSED = "payout.reversed"
    CALL_UNKNOWN = "external_call.unknown"
    DISPUTE_OPENED = "card_dispute.opened"
    DISPUTE_WON = "card_dispute.won"
    DISPUTE_LOST = "card_dispute.lost"
    DISPUTE_CLOSED = "card_dispute.closed"
    DISPUTE_EVIDENCE_REQUESTED = "card_dispute.evidence_requested"
    DISPUTE_ANSWERED = "card_dispute.answered"
    RECOVERY_OPENED = "recovery.opened"
    RECOVERY_DECIDED = "recovery.decided"
    FRAUD_CASE_OPENED = "fraud_case.opened"
    FRAUD_CASE_DECIDED = "fraud_case.decided"
    FRAUD_CASE_APPEALED = "fraud_case.appealed"
    FRAUD_CASE_CLOSED = "fraud_case.closed"
    RECOVERY_REVERSAL_REQUESTED = "recovery.reversal_requested"
    RECONCILIATION_REQUESTED = "reconciliation.requested"
    BOOKS_CHECK_REQUESTED = "books_check.requested"
    PROOF_PUBLISHED = "proof.published"
    PLATFORM_PAYOUT_REQUESTED = "platform_payout.requested"
    PLATFORM_PAYOUT_SENT = "platform_payout.sent"
    PLATFORM_PAYOUT_PAID = "platform_payout.paid"
    PLATFORM_PAYOUT_FAILED = "platform_payout.failed"
    DEAD_LETTER_REPLAYED = "dead_letter.replayed"
    DEAD_LETTER_DROPPED = "dead_letter.dropped"
    WEBHOOK_ENDPOINT_FAILING = "webhook_endpoint.failing"
    WEBHOOK_ENDPOINT_DISABLED = "webhook_endpoint.disabled"
    VERDICT_WEIGHED = "verdict.weighed"
    REFIT_REQUESTED = "stump_model.refit_requested"
    MODEL_REFITTED = "stump_model.refitted"
    QUALITY_ALERT = "quality.alert"
    QUALITY_ACKNOWLEDGED = "quality.acknowledged"
    BASELINE_ASKED = "baseline.asked"
    BASELINE_ANSWERED = "baseline.answered"
    BASELINE_SATURATED = "baseline.saturated"
    LIFT_DRAWN = "lift_study.drawn"
    LIFT_REPORTED = "lift_study.reported"
    LIFT_ESTIMATED = "lift_study.estimated"
    QUALITY_RULE_CHANGED = "quality_rule.changed"
    QUALITY_RULE_FIRED = "quality_rule.fired"
    RELEASE_TOLD = "model_release.told"
    RELEASE_CALIBRATING = "model_release.calibrating"
    RELEASE_CALIBRATED = "model_release.calibrated"
    RELEASE_ADOPTED = "model_release.adopted"
    RELEASE_WITHDRAWN = "model_release.withdrawn"
    STRIPE_EVENT_RECEIVED = "stripe_event.received"


class EventRow(Base):
    """One thing that happened, its place in the feeds, and whether its jobs were queued.

    `position` is drawn when the row is written, so that what follows from something seen comes
    after it, whatever the clocks say. The three `_seq` are its places in the feeds of the platform,
    the organisation and the person that it concerns: given when it is published (`feeds.py`),
    dense in each feed.
    """

    __tablename__ = "event"
    __table_args__ = (
        Index("ix_event_subject_id", "subject_id"),
        Index("ix_event_unpublished", "position", postgresql_where=text("platform_seq is null")),
        Index("ix_event_unrelayed", "platform_seq", postgresql_where=text("relayed_at is null")),
        Index("uq_event_platform_seq", "platform_seq", unique=True),
        Index("uq_event_organisation_seq", "organisation_id", "organisation_seq", unique=True),
        Index("uq_event_person_seq", "person_id", "person_seq", unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    type: Mapped[str]
    subject_id: Mapped[UUID]
    at: Mapped[datetime]
    organisation_id: Mapped[UUID | None] = mapped_column(default=None)
    person_id: Mapped[UUID | None] = mapped_column(default=None)
    actor_id: Mapped[UUID | None] = mapped_column(default=None)
    cause: Mapped[str | None] = mapped_column(default=None)
    data: Mapped[Json] = mapped_column(default_factory=dict)
    relayed_at: Mapped[datetime | None] = mapped_column(default=None)
    subject_version: Mapped[int | None] = mapped_column(default=None)
    position: Mapped[int] = mapped_column(BigInteger, Identity(always=True), init=False)
    platform_seq: Mapped[int | None] = mapped_column(default=None)
    organisation_seq: Mapped[int | None] = mapped_column(default=None)
    person_seq: Mapped[int | None] = mapped_column(default=None)
    published_at: Mapped[datetime | None] = mapped_column(default=None)


class StateChange(Base):
    """One move of one machine: who, when, why. Rows are only ever added."""

    __tablename__ = "state_change"
    __table_args__ = (Index("ix_state_change_subject_id", "subject_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    machine: Mapped[str]
    subject_id: Mapped[UUID]
    from_state: Mapped[str]
    to_state: Mapped[str]
    action: Mapped[str]
    at: Mapped[datetime]
    actor_id: Mapped[UUID | None] = mapped_column(default=None)
    reason_code: Mapped[str | None] = mapped_column(default=None)
    note: Mapped[str | None] = mapped_column(default=None)
    event_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.event.id"), default=None)
    evidence: Mapped[list[str] | None] = mapped_column(ARRAY(Text), default=None)
    """What the move rests on, where its action was given any."""


class StateRule(Base):
    """A move that the database allows a machine; a start is a move from the empty state."""

    __tablename__ = "state_rule"

    machine: Mapped[str] = mapped_column(primary_key=True)
    from_state: Mapped[str] = mapped_column(primary_key=True)
    to_state: Mapped[str] = mapped_column(primary_key=True)


_TELL = insert(cast("Table", EventRow.__table__))


class Stateful(Protocol):
    """A row with an id, a state and a version: what a machine moves."""

    id: UUID
    state: str
    version: int


def emit(
    session: Session,
    event: Event,
    subject_id: UUID,
    *,
    at: datetime,
    organisation_id: UUID | None = None,
    person_id: UUID | None = None,
    actor_id: UUID | None = None,
    data: Json | None = None,
    subject_version: int | None = None,
) -> UUID:
    """Say that something happened to a subject; the jobs that follow are queued after the commit.

    `organisation_id` and `person_id` name whom it concerns, besides the platform: both may read
    `data`, so it holds nothing that one of them must not know.
    """
    news = News(event, subject_id, organisation_id, person_id, actor_id, data, subject_version)
    return emit_all(session, [news], at=at)[0]


@dataclass(frozen=True, slots=True)
class News:
    """One thing to be said with `emit_all`, as `emit` takes it."""

    event: Event
    subject_id: UUID
    organisation_id: UUID | None = None
    person_id: UUID | None = None
    actor_id: UUID | None = None
    data: Json | None = None
    subject_version: int | None = None


def emit_all(session: Session, news: Sequence[News], *, at: datetime) -> list[UUID]:
    """Say many things in one round trip, in their order."""
    ids = [new_id() for _ in news]
    if news:
        # Into the table and not as objects, because this stands on every hot path.
        session.execute(
            _TELL,
            [
                {
                    "id": event_id,
                    "type": one.event.value,
                    "subject_id": one.subject_id,
                    "at": at,
                    "organisation_id": one.organisation_id,
                    "person_id": one.person_id,
                    "actor_id": one.actor_id,
                    "cause": session.info.get("cause"),
                    "data": one.data or {},
                    "subject_version": one.subject_version,
                }
                for one, event_id in zip(news, ids, strict=True)
            ],
        )
    return ids


def change_state(
    session: Session,
    machine: Machine,
    row: Stateful,
    action: str,
    *,
    at: datetime,
    event: Event | None = None,
    organisation_id: UUID | None = None,
    person_id: UUID | None = None,
    actor_id: UUID | None = None,
    reason_code: str | None = None,
    note: str | None = None,
    evidence: Sequence[str] = (),
    data: Json | None = None,
    changes: Mapping[str, object] | None = None,
) -> None:
    """Take one move of a machine: the new state, its history and its event, together.

    `changes` are columns of the row that change with its state. The caller holds the row locked.
    The version rises by one, so that an `If-Match` made before the move no longer holds.

    Raises:
        StateConflict.
    """
    before = row.state
    after = {"state": machine.target(before, action), "version": row.version + 1, **(changes or {})}
    found: InstanceState[Stateful] = inspect(row)
    is_written = found.modified or not found.persistent
    if is_written:
        # What was set on the row before belongs to the move: its constraints see all or nothing.
        for name, value in after.items():
            setattr(row, name, value)
    session.flush()
    statement = move_statement(
        cast("Table", found.mapper.local_table),
        () if is_written else tuple(after),
        is_told=event is not None,
    )
    move: Json = {
        "id": new_id(),
        "machine": machine.name,
        "subject_id": row.id,
        "from_state": before,
        "to_state": after["state"],
        "action": action,
        "at": at,
        "actor_id": actor_id,
        "reason_code": reason_code,
        "note": note,
        "evidence": list(evidence) or None,
    }
    if event is not None:
        move |= {
            "event_id": new_id(),
            "type": event.value,
            "organisation_id": organisation_id,
            "person_id": person_id,
            "cause": session.info.get("cause"),
            "data": data or {},
            "subject_version": after["version"],
        }
    if is_written:
        session.execute(statement, move)
        return
    # Row, history and event in one trip, because this stands on every hot path.
    move |= {f"new_{name}": value for name, value in after.items()}
    written = cast("CursorResult[Any]", session.execute(statement, move))
    if written.rowcount != 1:
        raise StaleDataError(
            f"there is no {machine.name} {row.id} of version {row.version} to {action} any more"
        )
    for name, value in after.items():
        set_committed_value(row, name, value)


@dataclass(slots=True)
class Changes:
    """Moves and events of one action that changes many rows, written together in two statements."""

    at: datetime
    actor_id: UUID | None = None
    moves: list[Json] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)

    def move(
        self,
        machine: Machine,
        subject_id: UUID,
        before: str,
        action: str,
        *,
        event_id: UUID | None = None,
        reason_code: str | None = None,
    ) -> str:
        """Note one move, and say where it leads.

        Raises:
            StateConflict.
        """
        after = machine.target(before, action)
        self.moves.append(
            {
                "id": new_id(),
                "machine": machine.name,
                "subject_id": subject_id,
                "from_state": before,
                "to_state": after,
                "action": action,
                "at": self.at,
                "actor_id": self.actor_id,
                "reason_code": reason_code,
                "event_id": event_id,
            }
        )
        return after

    def event(
        self,
        event: Event,
        subject_id: UUID,
        organisation_id: UUID | None,
        person_id: UUID | None,
    ) -> UUID:
        """Note one event, and give its id."""
        event_id = new_id()
        self.events.append(
            {
                "id": event_id,
                "type": event.value,
                "subject_id": subject_id,
                "at": self.at,
                "organisation_id": organisation_id,
                "person_id": person_id,
                "actor_id": self.actor_id,
                "data": {},
            }
        )
        return event_id

    def write(self, session: Session) -> None:
        """Write what was noted."""
        cause = session.info.get("cause")
        # Nulls written out, or rows with other gaps become other statements.
        whole = {"render_nulls": True}
        if self.events:
            rows = [{**row, "cause": cause} for row in self.events]
            session.execute(insert(EventRow), rows, execution_options=whole)
        if self.moves:
            session.execute(insert(StateChange), self.moves, execution_options=whole)
