"""What can be done about submissions: drafts, handing in, giving back.

Handing in moves offers, slots and tasks that an expert cannot see; it runs as the platform and
looks for everything by its id and its expert together. Locks are taken in one order: offer,
session, submission, slot, task.
"""

from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import Executable, bindparam, select
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.orm import Session

from market.db import Json, new_id
from market.edits.actions import record_edit
from market.events import Event, change_state
from market.offers.actions import release_offer
from market.offers.models import Offer
from market.offers.queries import offer as any_offer
from market.offers.queries import own_offer
from market.seats.actions import abandon_offer, complete_locked, recall_offer, screen_out_offer
from market.submissions.models import Submission
from market.submissions.rules import (
    LEASE_GRACE,
    MAX_PAYLOAD_BYTES,
    OPEN,
    SUBMISSION,
    AlreadySubmitted,
    NoSessionTime,
    PayloadEmpty,
    PayloadTooLarge,
)
from market.work.actions import end_work_on
from market.work.queries import deadline, recorded_s
from market.work.rules import whole


def _keeping() -> Executable:
    # A new draft, or another payload for the one there is while it is open to its author.
    given = ("id", "organisation_id", "project_id", "task_id", "slot_id", "offer_id", "expert_id")
    fresh = insert_or(Submission).values(
        {name: bindparam(name) for name in (*given, "payload", "created_at")}
        | {"state": "draft", "round": 1, "version": 1}
    )
    kept = fresh.on_conflict_do_update(
        index_elements=["offer_id"],
        set_={"payload": fresh.excluded.payload, "version": Submission.version + 1},
        where=Submission.state.in_(OPEN),
    )
    found = select(Submission).from_statement(kept.returning(Submission))
    return found.execution_options(populate_existing=True)


# Put together once: to do so at each call costs more than to run it.
_KEEP = _keeping()


def leave_offer(session: Session, offer_id: UUID, *, at: datetime) -> bool:
    """Give the seat of an offer that its expert left to another; whether it was one.

    So ends an offer that was withdrawn under work too, when its grace is over; whoever still works
    on it is stopped. Minutes up to the last proof stay owed.
    """
    at = whole(at)
    offer = any_offer(session, offer_id, locked=True)
    grace = {"active": LEASE_GRACE, "grace": timedelta(0)}.get(offer.state)
    if grace is None or offer.lease_until is None or offer.lease_until > at - grace:
        return False
    if deadline(session, offer, at=at).is_paused:
        return False
    if offer.state == "grace":
        end_work_on(session, offer_id, actor_id=None, at=at)
    abandon_offer(
        session,
        offer_id,
        reason="heartbeat_lost" if offer.state == "active" else "grace_over",
        owes_time=recorded_s(session, offer_id) > 0,
        at=at,
    )
    close_draft(session, offer_id, "time_out", at=at)
    return True


def save_draft(
    session: Session, offer_id: UUID, *, expert_id: UUID, payload: Json, at: datetime
) -> Submission:
    """Keep unfinished work; each time replaces the last.

    Raises:
        OfferNotFound, StateConflict, PayloadTooLarge, AlreadySubmitted.
    """
    return _keep(session, own_offer(session, offer_id, expert_id), payload, at=at)


def _keep(session: Session, offer: Offer, payload: Json, *, at: datetime) -> Submission:
    size = len(msgspec.json.encode(payload))
    if size > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(size)
    values = {
        "id": new_id(),
        "organisation_id": offer.organisation_id,
        "project_id": offer.project_id,
        "task_id": offer.task_id,
        "slot_id": offer.slot_id,
        "offer_id": offer.id,
        "expert_id": offer.expert_id,
        "payload": payload,
        "created_at": at,
    }
    found: Submission | None = session.scalar(_KEEP, values)
    if found is None:
        raise AlreadySubmitted()
    return found


def submit_work(
    session: Session,
    offer_id: UUID,
    *,
    expert_id: UUID,
    payload: Json,
    at: datetime,
    attempt_id: UUID | None = None,
) -> Submission:
    """Hand in: the session ends, the offer is done, its slot submitted, and reviews follow.

    Whoever gives an `attempt_id` has checked that it is this offer's (see `attempts`).

    Raises:
        OfferNotFound, StateConflict, NoSessionTime, PayloadEmpty, PayloadTooLarge,
        AlreadySubmitted, DraftUnedited.
    """
    if not payload:
        raise PayloadEmpty()
    at = whole(at)
    offer = own_offer(session, offer_id, expert_id, locked=True)
    if offer.state == "completed":
        raise AlreadySubmitted()
    if end_work_on(session, offer_id, actor_id=expert_id, at=at) == 0:
        raise NoSessionTime()
    row = _keep(session, offer, payload, at=at)
    is_rework = row.state == "rework_requested"
    turn = row.round + is_rework
    record_edit(session, offer, row.id, turn=turn, payload=payload, at=at)
    change_state(
        session,
        SUBMISSION,
        row,
        "resubmit" if is_rework else "submit",
        at=at,
        event=Event.SUBMISSION_SUBMITTED,
        organisation_id=row.organisation_id,
        person_id=expert_id,
        actor_id=expert_id,
        changes={
            "submitted_at": at,
            "round": turn,
            # What comes back from a rework keeps its evidence, unless there is new.
            "attempt_id": row.attempt_id if attempt_id is None and is_rework else attempt_id,
        },
    )
    complete_locked(session, offer, at=at)
    return row


def give_back(
    session: Session,
    offer_id: UUID,
    *,
    expert_id: UUID,
    reason: str,
    at: datetime,
    note: str | None = None,
) -> bool:
    """Give a task back; the draft is kept, and recorded minutes stay owed: whether there are any.

    Raises:
        OfferNotFound, AnswerReasonUnknown, StateConflict.
    """
    at = whole(at)
    own_offer(session, offer_id, expert_id, locked=True)
    owes_time = end_work_on(session, offer_id, actor_id=expert_id, at=at) > 0
    release_offer(
        session, offer_id, expert_id=expert_id, reason=reason, note=note, owes_time=owes_time, at=at
    )
    close_draft(session, offer_id, "give_back", at=at, actor_id=expert_id)
    return owes_time


def take_back(
    session: Session, offer_id: UUID, *, reason: str, actor_id: UUID | None, at: datetime
) -> bool:
    """Give a task back that was asked back, whoever says so; the draft is kept, and recorded
    minutes stay owed: whether there are any. Whoever calls holds the offer locked.

    Raises:
        OfferNotFound, StateConflict.
    """
    at = whole(at)
    owes_time = end_work_on(session, offer_id, actor_id=actor_id, at=at) > 0
    recall_offer(session, offer_id, reason=reason, owes_time=owes_time, at=at, actor_id=actor_id)
    close_draft(session, offer_id, "give_back", at=at, actor_id=actor_id)
    return owes_time


def screen_out(session: Session, offer_id: UUID, *, expert_id: UUID, at: datetime) -> Submission:
    """End work that its screener says is not for this expert; what was written is kept.

    Raises:
        OfferNotFound, StateConflict, AlreadySubmitted.
    """
    at = whole(at)
    offer = own_offer(session, offer_id, expert_id, locked=True)
    end_work_on(session, offer_id, actor_id=expert_id, at=at)
    found = session.scalar(
        select(Submission)
        .where(Submission.offer_id == offer_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    row = found or _keep(session, offer, {}, at=at)
    change_state(
        session,
        SUBMISSION,
        row,
        "screen_out",
        at=at,
        event=Event.SUBMISSION_SCREENED_OUT,
        organisation_id=row.organisation_id,
        person_id=expert_id,
        actor_id=expert_id,
    )
    screen_out_offer(session, offer_id, expert_id=expert_id, at=at)
    return row


def close_draft(
    session: Session, offer_id: UUID, action: str, *, at: datetime, actor_id: UUID | None = None
) -> None:
    """Take unfinished work out of the way when its offer has ended without a submission.

    Work that was sent back and does not return in time is given back, as if its author had said so.
    """
    draft = session.scalar(
        select(Submission)
        .where(Submission.offer_id == offer_id, Submission.state.in_(OPEN))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if draft is None:
        return
    is_rework = draft.state == "rework_requested"
    change_state(
        session,
        SUBMISSION,
        draft,
        "decline_rework" if is_rework else action,
        at=at,
        event=Event.SUBMISSION_RETURNED if is_rework else None,
        organisation_id=draft.organisation_id,
        person_id=draft.expert_id,
        actor_id=actor_id,
        reason_code="deadline_over" if is_rework and action == "time_out" else None,
    )
