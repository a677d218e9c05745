"""How disputes are opened: by a lab about hours, by an expert about time that is missing or unpaid.

All of it runs as the platform: both sides' rows move. Locks are taken in one order: offer, the
expert's pay, dispute, lines, time.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import exists, literal, select
from sqlalchemy.dialects.postgresql import TSTZRANGE, Range
from sqlalchemy.orm import Session

from market.approvals.actions import (
    split_line,
)
from market.disputes.actions import move_entry
from market.disputes.models import Dispute
from market.disputes.queries import (
    contested_seconds,
    is_contested,
    overlapping,
    waiting_lines,
)
from market.disputes.rules import (
    ASK_WITHIN,
    EXPERT_REASONS,
    LAB_REASONS,
    MAX_ASKED,
    RESPOND_DAYS,
    NothingToDispute,
    RangeInvalid,
    checked_statement,
    working_days_after,
)
from market.earnings.actions import keep_from_recording, lock_pay
from market.earnings.models import Earning
from market.earnings.rules import EARNING
from market.events import Event, change_state, emit
from market.offers.models import Offer
from market.offers.queries import offer as any_offer
from market.offers.rules import HELD, OfferNotFound
from market.work.models import TimeEntry
from market.work.rules import TimeTaken, seconds_between, whole


@dataclass(frozen=True, slots=True)
class Opening:
    """What a side says when it opens a dispute: about which time, and why."""

    starts_at: datetime
    ends_at: datetime
    reason_code: str
    statement: str
    evidence: tuple[str, ...] = ()


def contest_hours(
    session: Session, offer_id: UUID, opening: Opening, *, actor_id: UUID, at: datetime
) -> Dispute:
    """A lab contests credited time that is not approved yet; only that part of the pay waits.

    Raises:
        OfferNotFound, DisputeReasonMissing, RangeInvalid, NothingToDispute.
    """
    statement = checked_statement(opening.statement, opening.reason_code, LAB_REASONS)
    offer, starts_at, ends_at = _range(session, offer_id, opening)
    keep_from_recording(session)
    lock_pay(session, offer.expert_id)
    if is_contested(session, offer_id, starts_at, ends_at):
        raise NothingToDispute("some of this range was disputed before; a decision stands")
    wanted = contested_seconds(session, offer, starts_at, ends_at)
    parts: list[tuple[Earning, int]] = []
    for line in waiting_lines(session, offer_id):
        seconds = min(line.seconds, wanted[line.week, line.rate_minor_per_hour])
        if seconds:
            wanted[line.week, line.rate_minor_per_hour] -= seconds
            parts.append((line, seconds))
    if not parts:
        raise NothingToDispute(
            "no credited hours wait for approval in this range; hours are credited when their week"
            " is over or their work is decided, and can be disputed until they are approved"
        )
    made = _open(
        session,
        offer,
        "hours",
        opening,
        statement,
        claimed_s=sum(seconds for _, seconds in parts),
        actor_id=actor_id,
        at=at,
    )
    for line, seconds in parts:
        held = split_line(session, line, seconds, at=at)
        held.dispute_id = made.id
        change_state(session, EARNING, held, "dispute", at=at, actor_id=actor_id)
    for entry in overlapping(session, offer_id, starts_at, ends_at):
        if entry.state == "locked":
            move_entry(session, entry, "dispute", at=at, actor_id=actor_id)
    return made


def ask_for_time(
    session: Session, offer_id: UUID, opening: Opening, *, expert_id: UUID, at: datetime
) -> Dispute:
    """An expert asks for time that heartbeats did not prove; a person decides.

    Raises:
        OfferNotFound, DisputeReasonMissing, RangeInvalid, TimeTaken.
    """
    statement = checked_statement(opening.statement, opening.reason_code, EXPERT_REASONS)
    offer, starts_at, ends_at = _range(session, offer_id, opening, expert_id=expert_id)
    if ends_at > at:
        raise RangeInvalid("ends in the future")
    if ends_at < at - ASK_WITHIN:
        raise RangeInvalid(f"is more than {ASK_WITHIN.days} days past")
    if ends_at - starts_at > MAX_ASKED:
        raise RangeInvalid(f"is longer than {MAX_ASKED // timedelta(hours=1)} hours")
    if offer.accepted_at is not None and starts_at < whole(offer.accepted_at):
        raise RangeInvalid("begins before the offer was accepted")
    if _is_taken(session, expert_id, starts_at, ends_at):
        raise TimeTaken()
    claimed_s = seconds_between(starts_at, ends_at)
    return _open(
        session,
        offer,
        "missing_time",
        opening,
        statement,
        claimed_s=claimed_s,
        actor_id=expert_id,
        at=at,
    )


def ask_beyond_cap(
    session: Session, offer_id: UUID, opening: Opening, *, expert_id: UUID, at: datetime
) -> Dispute:
    """An expert asks that recorded time beyond a cap be paid; a person decides.

    Raises:
        OfferNotFound, DisputeReasonMissing, RangeInvalid, NothingToDispute.
    """
    statement = checked_statement(opening.statement, opening.reason_code, EXPERT_REASONS)
    offer, starts_at, ends_at = _range(session, offer_id, opening, expert_id=expert_id)
    entries = overlapping(session, offer_id, starts_at, ends_at)
    claimed_s = sum(entry.capped_s - entry.granted_s for entry in entries)
    if claimed_s == 0:
        raise NothingToDispute("no recorded time beyond a cap lies in this range")
    return _open(
        session,
        offer,
        "unpaid_time",
        opening,
        statement,
        claimed_s=claimed_s,
        actor_id=expert_id,
        at=at,
    )


def _range(
    session: Session, offer_id: UUID, opening: Opening, *, expert_id: UUID | None = None
) -> tuple[Offer, datetime, datetime]:
    offer = any_offer(session, offer_id, locked=True)
    if expert_id is not None and offer.expert_id != expert_id:
        raise OfferNotFound(offer_id)
    if offer.state not in (*HELD, "released", "abandoned"):
        raise RangeInvalid(f"is on an offer that is {offer.state}, on which nothing was worked")
    starts_at, ends_at = whole(opening.starts_at), whole(opening.ends_at)
    if ends_at <= starts_at:
        raise RangeInvalid("ends before it begins")
    return offer, starts_at, ends_at


def _is_taken(session: Session, expert_id: UUID, starts_at: datetime, ends_at: datetime) -> bool:
    wanted = literal(Range(starts_at, ends_at, bounds="[)"), TSTZRANGE)
    taken = exists().where(
        TimeEntry.expert_id == expert_id,
        TimeEntry.state != "voided",
        TimeEntry.during.overlaps(wanted),
    )
    return bool(session.scalar(select(taken)))


def _open(
    session: Session,
    offer: Offer,
    kind: str,
    opening: Opening,
    statement: str,
    *,
    claimed_s: int,
    actor_id: UUID,
    at: datetime,
) -> Dispute:
    made = Dispute(
        organisation_id=offer.organisation_id,
        project_id=offer.project_id,
        expert_id=offer.expert_id,
        offer_id=offer.id,
        kind=kind,
        starts_at=whole(opening.starts_at),
        ends_at=whole(opening.ends_at),
        claimed_s=claimed_s,
        reason_code=opening.reason_code,
        statement=statement,
        evidence=list(opening.evidence),
        opened_by=actor_id,
        opened_part="lab" if kind == "hours" else "expert",
        opened_at=at,
        due_at=working_days_after(at, RESPOND_DAYS),
    )
    session.add(made)
    session.flush()
    emit(
        session,
        Event.PAY_DISPUTE_OPENED,
        made.id,
        at=at,
        organisation_id=made.organisation_id,
        person_id=made.expert_id,
        actor_id=actor_id,
        data={"kind": kind, "seconds": claimed_s, "due_at": made.due_at.isoformat()},
    )
    return made
