"""How a task is asked back, answered for, and taken back when nobody answers.

Locks are taken in one order: the offer before its request, as it is before its session everywhere.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from market.events import Event, change_state, emit
from market.offers.models import Offer
from market.offers.queries import offer as any_offer
from market.returns.models import ReturnRequest
from market.returns.queries import asked_of, return_request
from market.returns.rules import (
    HOLDING,
    LONGEST,
    MAX_REASON,
    RETURN_REQUEST,
    SHORTEST,
    SILENCE,
    NobodyHolds,
    ReturnRequestNotFound,
    ReturnUnfit,
    checked_reason,
)
from market.submissions.actions import take_back


def ask_back(
    session: Session,
    task_id: UUID,
    *,
    reason: str,
    silence: str,
    due_at: datetime,
    at: datetime,
    actor_id: UUID | None = None,
) -> list[ReturnRequest]:
    """Ask whoever holds a task and has not been asked to give it back by a time.

    The caller has checked whose task it is.

    Raises:
        ReturnUnfit, NobodyHolds.
    """
    why = checked_reason(reason)
    if silence not in SILENCE:
        raise ReturnUnfit("silence", f"one of {', '.join(SILENCE)}")
    if not at + SHORTEST <= due_at <= at + LONGEST:
        raise ReturnUnfit("due_at", f"{SHORTEST} to {LONGEST.days} days from now")
    # Locked, so that of two who ask at once the second finds the request of the first.
    held = session.scalars(
        select(Offer)
        .where(Offer.task_id == task_id, Offer.state.in_(HOLDING))
        .order_by(Offer.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    asked = asked_of(session, [one.id for one in held])
    made = [
        ReturnRequest(
            organisation_id=one.organisation_id,
            project_id=one.project_id,
            task_id=one.task_id,
            offer_id=one.id,
            expert_id=one.expert_id,
            reason=why,
            silence=silence,
            asked_at=at,
            due_at=due_at,
            asked_by=actor_id,
        )
        for one in held
        if one.id not in asked
    ]
    if not made:
        raise NobodyHolds()
    session.add_all(made)
    session.flush()
    for one in made:
        emit(
            session,
            Event.RETURN_REQUEST_ASKED,
            one.id,
            at=at,
            organisation_id=one.organisation_id,
            person_id=one.expert_id,
            actor_id=actor_id,
            data={"due_at": due_at.isoformat(), "silence": silence},
        )
    return made


def answer_return(
    session: Session,
    request_id: UUID,
    *,
    expert_id: UUID,
    keeps: bool,
    reason: str = "",
    at: datetime,
) -> ReturnRequest:
    """Give a task back that was asked for, or keep it and say why.

    Given back, its draft is kept and its minutes are paid, as whenever a task is given back.

    Raises:
        ReturnRequestNotFound, ReturnUnfit, StateConflict.
    """
    row, offer = _locked(session, request_id)
    if row.expert_id != expert_id:
        raise ReturnRequestNotFound(request_id)
    said = checked_reason(reason) if keeps else reason.strip()[:MAX_REASON]
    row.answer = said or None
    action = "keep" if keeps else "return"
    RETURN_REQUEST.target(row.state, action)
    if not keeps:
        take_back(session, offer.id, reason="asked_back", actor_id=expert_id, at=at)
    _end(session, row, action, Event.RETURN_REQUEST_ANSWERED, at=at, actor_id=expert_id)
    return row


def withdraw_return(
    session: Session, request_id: UUID, *, at: datetime, actor_id: UUID | None = None
) -> ReturnRequest:
    """Ask no longer.

    Raises:
        ReturnRequestNotFound, StateConflict.
    """
    row, _ = _locked(session, request_id)
    _end(session, row, "withdraw", Event.RETURN_REQUEST_ENDED, at=at, actor_id=actor_id)
    return row


def end_return(session: Session, request_id: UUID, *, at: datetime) -> bool:
    """Let silence say what the request said it would; whether there was anything to end.

    Raises:
        ReturnRequestNotFound.
    """
    row, offer = _locked(session, request_id)
    if row.state != "asked":
        return False
    if offer.state not in HOLDING:
        action = "overtake"
    elif row.due_at > at:
        return False
    elif row.silence == "return":
        action = "take_back"
        take_back(session, offer.id, reason="asked_back", actor_id=None, at=at)
    else:
        action = "leave"
    _end(session, row, action, Event.RETURN_REQUEST_ENDED, at=at, actor_id=None)
    return True


def _locked(session: Session, request_id: UUID) -> tuple[ReturnRequest, Offer]:
    offer = any_offer(session, return_request(session, request_id).offer_id, locked=True)
    return return_request(session, request_id, locked=True), offer


def _end(
    session: Session,
    row: ReturnRequest,
    action: str,
    event: Event,
    *,
    at: datetime,
    actor_id: UUID | None,
) -> None:
    target = RETURN_REQUEST.target(row.state, action)
    row.ended_at = at
    change_state(
        session,
        RETURN_REQUEST,
        row,
        action,
        at=at,
        event=event,
        organisation_id=row.organisation_id,
        person_id=row.expert_id,
        actor_id=actor_id,
        data={"state": target},
    )
