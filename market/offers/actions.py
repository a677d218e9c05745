"""What can become of an offer: each move with its slot, its task and its money, together.

An expert cannot see slots, other people's tasks or the project's budget, all of which move with an
offer; these actions run as the platform, and look for an expert's offer by id and expert together.
Locks are taken in one order: offer, slot and task, recording, ledger.
"""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Boolean, DateTime, Text, Uuid, bindparam, exists, select, text
from sqlalchemy.orm import Session, load_only
from sqlalchemy.orm.attributes import set_committed_value

from market.db import forget, new_id
from market.events import Event, change_state
from market.experts.models import Expert
from market.experts.rules import WORKING
from market.offers.models import Offer
from market.offers.queries import offer as any_offer
from market.offers.queries import own_offer
from market.offers.rules import (
    HELD,
    OFFER,
    RECORDING,
    NotEligible,
    OfferExpired,
    OfferNotFound,
    OverlapFull,
    ProjectNotLive,
    checked_reason,
    due_at,
    reservation_key,
)
from market.projects.models import Project
from market.tasks.models import Task, TaskSlot
from market.tasks.rules import SLOT, TASK
from payouts.ledger import void_pending

_NOT_WHILE_RECORDING = text("select pg_advisory_xact_lock_shared(hashtextextended(:name, 7))")


_ASKED = (
    select(Offer, TaskSlot.state, TaskSlot.offer_id, Task.state, Project.state, Expert.state)
    .join(TaskSlot, TaskSlot.id == Offer.slot_id)
    .join(Task, Task.id == Offer.task_id)
    .join(Project, Project.id == Offer.project_id)
    .join(Expert, Expert.id == Offer.expert_id)
    .where(Offer.id == bindparam("offer"), Offer.expert_id == bindparam("expert"))
    .with_for_update(of=[Offer, TaskSlot, Task], key_share=True)
    .execution_options(populate_existing=True)
)

_ACCEPT = text(
    """
    with accepted as (
        update market.offer set state = 'accepted', version = version + 1, accepted_at = :at,
            lease_until = :lease_until
        where id = :offer
    ), claimed as (
        update market.task_slot set state = 'claimed', version = version + 1 where id = :slot
    ), started as (
        update market.task set state = 'active', version = version + 1
        where id = :task and :starts
    ), told as (
        insert into market.event
            (id, type, subject_id, at, organisation_id, person_id, actor_id, cause, data)
        values (:event, :event_type, :offer, :at, :organisation, :expert, :expert, :cause, '{}')
    )
    insert into market.state_change
        (id, machine, subject_id, from_state, to_state, action, at, actor_id, event_id)
    select cast(:change1 as uuid), 'offer', cast(:offer as uuid), 'pending', 'accepted', 'accept',
        cast(:at as timestamptz), cast(:expert as uuid), cast(:event as uuid)
    union all select :change2, 'task_slot', :slot, 'offered', 'claimed', 'claim', :at, :expert, null
    union all select :change3, 'task', :task, 'queued', 'active', 'start', :at, :expert, null
        where :starts
    """
).bindparams(
    bindparam("at", type_=DateTime(timezone=True)),
    bindparam("lease_until", type_=DateTime(timezone=True)),
    bindparam("starts", type_=Boolean()),
    bindparam("cause", type_=Text()),
    *(
        bindparam(name, type_=Uuid())
        for name in ("offer", "slot", "task", "organisation", "expert", "event")
    ),
    *(bindparam(f"change{n}", type_=Uuid()) for n in (1, 2, 3)),
)


EVENTS = {
    "decline": Event.OFFER_DECLINED,
    "expire": Event.OFFER_TIMED_OUT,
    "rescind": Event.OFFER_RESCINDED,
    "cancel": Event.OFFER_CANCELED,
    "release": Event.OFFER_RELEASED,
    "abandon": Event.OFFER_ABANDONED,
}


def accept_offer(session: Session, offer_id: UUID, *, expert_id: UUID, at: datetime) -> Offer:
    """Take an offer: the seat is the expert's, and the time to begin work runs.

    Accepting again what one holds answers with it, and changes nothing.

    Raises:
        OfferNotFound, OfferExpired, OverlapFull, ProjectNotLive, NotEligible, StateConflict.
    """
    found = session.execute(_ASKED, {"offer": offer_id, "expert": expert_id}).one_or_none()
    if found is None:
        raise OfferNotFound(offer_id)
    offer, slot_state, holder, task_state, project_state, standing = found
    if offer.state in HELD:
        return offer
    if offer.state == "timed_out" or (offer.state == "pending" and offer.expires_at <= at):
        raise OfferExpired(offer.expires_at)
    if offer.state in ("rescinded", "canceled"):
        raise OverlapFull()
    OFFER.target(offer.state, "accept")
    if holder != offer.id or slot_state != "offered":
        raise OverlapFull()
    if task_state not in ("queued", "active"):
        raise OverlapFull()
    if project_state != "live":
        raise ProjectNotLive(project_state)
    if standing not in WORKING:
        raise NotEligible([f"your standing is {standing}"])
    lease_until = due_at(offer.terms, at)
    # Accepting is what experts wait for: all that moves, its history and its event, in one trip.
    session.execute(
        _ACCEPT,
        {
            "offer": offer.id,
            "slot": offer.slot_id,
            "task": offer.task_id,
            "organisation": offer.organisation_id,
            "expert": expert_id,
            "at": at,
            "lease_until": lease_until,
            "starts": task_state == "queued",
            "event": new_id(),
            "event_type": Event.OFFER_ACCEPTED.value,
            "cause": session.info.get("cause"),
            **{f"change{n}": new_id() for n in (1, 2, 3)},
        },
    )
    forget(session, TaskSlot, offer.slot_id)
    forget(session, Task, offer.task_id)
    # What the statement wrote, without a second trip to read it.
    for name, value in {
        "state": "accepted",
        "version": offer.version + 1,
        "accepted_at": at,
        "lease_until": lease_until,
    }.items():
        set_committed_value(offer, name, value)
    return offer


def decline_offer(
    session: Session,
    offer_id: UUID,
    *,
    expert_id: UUID,
    reason: str,
    note: str | None = None,
    at: datetime,
) -> Offer:
    """Say no to an offer; it costs nothing, and declining twice changes nothing.

    Raises:
        OfferNotFound, OfferExpired, AnswerReasonUnknown, StateConflict.
    """
    checked_reason(reason)
    offer = own_offer(session, offer_id, expert_id, locked=True)
    if offer.state == "declined":
        return offer
    if offer.state == "timed_out" or (offer.state == "pending" and offer.expires_at <= at):
        raise OfferExpired(offer.expires_at)
    return end_offer(session, offer, "decline", at=at, actor_id=expert_id, reason=reason, note=note)


def expire_offer(session: Session, offer_id: UUID, *, at: datetime) -> bool:
    """End an offer that nobody answered by its deadline; whether there was one to end.

    Raises:
        OfferNotFound.
    """
    offer = any_offer(session, offer_id, locked=True)
    if offer.state != "pending" or offer.expires_at > at:
        return False
    end_offer(session, offer, "expire", at=at)
    return True


def rescind_offer(session: Session, offer_id: UUID, *, at: datetime) -> bool:
    """Take back an offer that waits for an answer, because another answer has its seat; whether it
    did. Nothing is held against its expert.

    Raises:
        OfferNotFound.
    """
    offer = any_offer(session, offer_id, locked=True)
    if offer.state != "pending":
        return False
    end_offer(session, offer, "rescind", at=at, reason="seat_taken")
    return True


def withdraw_offer(
    session: Session, offer_id: UUID, *, reason: str, grace: timedelta, at: datetime
) -> Offer:
    """Take an offer back from its expert: its task or its project ended, or the expert's access.

    Unanswered, it is cancelled; accepted without work begun, released; under work, there is some
    grace to hand in what there is. Nothing is held against the expert. In any other state it stays
    as it is.

    Raises:
        OfferNotFound.
    """
    offer = any_offer(session, offer_id, locked=True)
    if offer.state == "pending":
        return end_offer(session, offer, "cancel", at=at, reason=reason)
    if offer.state == "accepted":
        return end_offer(session, offer, "release", at=at, reason=reason)
    if offer.state == "active":
        offer.lease_until = at + grace
        change_state(session, OFFER, offer, "grace", at=at, reason_code=reason)
    return offer


def release_offer(
    session: Session,
    offer_id: UUID,
    *,
    expert_id: UUID,
    reason: str,
    note: str | None = None,
    owes_time: bool,
    at: datetime,
) -> Offer:
    """Give a task back; another expert gets the seat. Doing it twice changes nothing.

    With `owes_time` the reservation stays, for the minutes that were worked: whoever pays them
    posts or voids it. Without, it is let go here.

    Raises:
        OfferNotFound, AnswerReasonUnknown, StateConflict.
    """
    checked_reason(reason)
    offer = own_offer(session, offer_id, expert_id, locked=True)
    if offer.state == "released":
        return offer
    return end_offer(
        session,
        offer,
        "release",
        at=at,
        actor_id=expert_id,
        reason=reason,
        note=note,
        keep_money=owes_time,
    )


def lapse_offer(session: Session, offer_id: UUID, *, at: datetime) -> bool:
    """Take back an accepted offer on which no work was begun in time; whether it was one.

    Raises:
        OfferNotFound.
    """
    offer = any_offer(session, offer_id, locked=True)
    if offer.state != "accepted" or offer.lease_until is None or offer.lease_until > at:
        return False
    end_offer(session, offer, "release", at=at, reason="lease_over")
    return True


def end_offer(
    session: Session,
    offer: Offer,
    action: str,
    *,
    at: datetime,
    actor_id: UUID | None = None,
    reason: str | None = None,
    note: str | None = None,
    keep_money: bool = False,
) -> Offer:
    """Move an offer that is locked to an end: its seat is free again, and its money is let go
    unless `keep_money` leaves that to whoever pays for the minutes.

    Raises:
        StateConflict.
    """
    change_state(
        session,
        OFFER,
        offer,
        action,
        at=at,
        event=EVENTS[action],
        organisation_id=offer.organisation_id,
        person_id=offer.expert_id,
        actor_id=actor_id,
        reason_code=reason,
        note=note,
        data={"owes_time": True} if keep_money else None,
        changes={"ended_at": at},
    )
    _free_slot(session, offer, at=at, actor_id=actor_id)
    if not keep_money:
        # A run that records holds the ledger accounts of many offers, and would wait for this one's
        # while this one waits for it.
        session.execute(_NOT_WHILE_RECORDING, {"name": RECORDING})
        key = reservation_key(offer.id)
        void_pending(session, key, key=f"{key}:void", at=at, memo=f"offer {offer.state}")
    return offer


def _free_slot(session: Session, offer: Offer, *, at: datetime, actor_id: UUID | None) -> None:
    found = session.execute(
        select(TaskSlot, Task)
        .join(Task, Task.id == TaskSlot.task_id)
        .where(TaskSlot.id == offer.slot_id)
        .options(load_only(Task.state, Task.version))
        .with_for_update(of=[TaskSlot, Task], key_share=True)
        .execution_options(populate_existing=True)
    ).one()
    slot, task = found
    # A seat that was taken back by other means is not this offer's to give.
    if slot.offer_id != offer.id:
        return
    change_state(
        session, SLOT, slot, "release", at=at, actor_id=actor_id, changes={"offer_id": None}
    )
    change_state(session, SLOT, slot, "reopen", at=at, actor_id=actor_id)
    if task.state in ("in_review", "disputed"):
        change_state(session, TASK, task, "extend", at=at, actor_id=actor_id)
    if task.state == "active":
        busy = exists().where(
            TaskSlot.task_id == task.id, TaskSlot.state.in_(("claimed", "submitted", "counted"))
        )
        if not session.scalar(select(busy)):
            change_state(session, TASK, task, "requeue", at=at, actor_id=actor_id)
