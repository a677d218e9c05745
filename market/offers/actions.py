"""What can become of an offer: each move with its slot, its task and its money, together.

An expert cannot see slots, other people's tasks or the project's budget, all of which move with an
offer; these actions run as the platform, and look for an expert's offer by id and expert together.
Locks are taken in one order: offer, slot and task, recording, ledger.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Boolean,
    DateTime,
    Text,
    Uuid,
    bindparam,
    exists,
    insert,
    select,
    text,
)
from sqlalchemy.orm import Session, load_only
from sqlalchemy.orm.attributes import set_committed_value

from market.db import forget, new_id
from market.events import Event, EventRow, StateChange, change_state
from market.experiments.actions import Touched, expose
from market.experts.models import Expert
from market.experts.rules import WORKING
from market.offers.models import Offer
from market.offers.queries import offer as any_offer
from market.offers.queries import own_offer
from market.offers.rules import (
    HELD,
    OFFER,
    RECORDING,
    LeaseLost,
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
from market.tasks.rules import FILLED, RETIRED, SLOT, TASK
from payouts.ledger import void_pending

_NOT_WHILE_RECORDING = text("select pg_advisory_xact_lock_shared(hashtextextended(:name, 7))")

_PROMISE_SLOTS = text(
    """
    update market.task_slot s
    set state = 'offered', offer_id = v.offer_id, version = s.version + 1
    from unnest(:slots, :offers) as v (slot_id, offer_id) where s.id = v.slot_id
    returning s.id
    """
).bindparams(bindparam("slots", type_=ARRAY(Uuid())), bindparam("offers", type_=ARRAY(Uuid())))

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

_COMPLETE = text(
    """
    with completed as (
        update market.offer set state = 'completed', version = :version, ended_at = :at
        where id = :offer
    ), seated as (
        update market.task_slot set state = 'submitted', version = version + 1
        where id = :slot and state <> 'submitted'
        returning id
    ), reviewed as (
        update market.task set state = 'in_review', version = version + 1
        where id = :task and state = 'active' and not exists (
            select from market.task_slot other
            where other.task_id = :task and other.id <> :slot
                and other.state <> all (:filled)
        )
        returning id
    ), told as (
        insert into market.event (id, type, subject_id, at, organisation_id, person_id, actor_id,
            cause, data, subject_version)
        values (:event, :event_type, :offer, :at, :organisation, :expert, :expert, :cause, '{}',
            :version)
    )
    insert into market.state_change
        (id, machine, subject_id, from_state, to_state, action, at, actor_id, event_id)
    select cast(:change1 as uuid), 'offer', cast(:offer as uuid), cast(:before as text),
        'completed', 'complete', cast(:at as timestamptz), cast(:expert as uuid),
        cast(:event as uuid)
    union all select :change2, 'task_slot', id, 'claimed', 'submitted', 'submit', :at, :expert, null
        from seated
    union all select :change3, 'task', id, 'active', 'in_review', 'review', :at, null, null
        from reviewed
    """
).bindparams(
    bindparam("at", type_=DateTime(timezone=True)),
    bindparam("cause", type_=Text()),
    bindparam("filled", type_=ARRAY(Text())),
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


def make_offers(session: Session, offers: Sequence[Offer], *, at: datetime) -> None:
    """Put chosen pairs to their experts: offers, slots, history and events, in a few statements.

    The caller holds the open slots locked and has reserved each offer's money.
    """
    if not offers:
        return
    session.add_all(offers)
    session.flush()
    slots = session.execute(
        _PROMISE_SLOTS,
        {"slots": [one.slot_id for one in offers], "offers": [one.id for one in offers]},
    ).scalars()
    if len(list(slots)) != len(offers):
        raise RuntimeError("an offer was made for a slot that is not there")
    touched = [
        Touched(one.id, one.expert_id, one.project_id, one.run_id, one.terms.get("trials") or ())
        for one in offers
    ]
    expose(session, touched, at=at)
    told = {one.id: new_id() for one in offers}
    cause = session.info.get("cause")
    session.execute(
        insert(EventRow),
        [
            {
                "id": told[one.id],
                "type": Event.OFFER_CREATED.value,
                "subject_id": one.id,
                "at": at,
                "organisation_id": one.organisation_id,
                "person_id": one.expert_id,
                "cause": cause,
                "data": {},
            }
            for one in offers
        ],
    )
    session.execute(
        insert(StateChange),
        [
            {
                "id": new_id(),
                "machine": machine,
                "subject_id": subject,
                "from_state": before,
                "to_state": after,
                "action": action,
                "at": at,
                "event_id": told[one.id] if subject == one.id else None,
            }
            for one in offers
            for machine, subject, before, after, action in (
                (OFFER.name, one.id, "", "pending", "create"),
                (SLOT.name, one.slot_id, "open", "offered", "offer"),
            )
        ],
    )


def accept_offer(session: Session, offer_id: UUID, *, expert_id: UUID, at: datetime) -> Offer:
    """Take an offer: the seat is the expert's, and the time to begin work runs.

    Accepting again what one holds answers with it, and changes nothing.

    Raises:
        OfferNotFound, OfferExpired, OverlapFull, ProjectNotLive, NotEligible, StateConflict.
    """
    found = session.execute(
        select(Offer, TaskSlot.state, TaskSlot.offer_id, Task.state, Project.state, Expert.state)
        .join(TaskSlot, TaskSlot.id == Offer.slot_id)
        .join(Task, Task.id == Offer.task_id)
        .join(Project, Project.id == Offer.project_id)
        .join(Expert, Expert.id == Offer.expert_id)
        .where(Offer.id == offer_id, Offer.expert_id == expert_id)
        .with_for_update(of=[Offer, TaskSlot, Task], key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
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
    return _end(session, offer, "decline", at=at, actor_id=expert_id, reason=reason, note=note)


def expire_offer(session: Session, offer_id: UUID, *, at: datetime) -> bool:
    """End an offer that nobody answered by its deadline; whether there was one to end.

    Raises:
        OfferNotFound.
    """
    offer = any_offer(session, offer_id, locked=True)
    if offer.state != "pending" or offer.expires_at > at:
        return False
    _end(session, offer, "expire", at=at)
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
    _end(session, offer, "rescind", at=at, reason="seat_taken")
    return True


def reopen_offer(session: Session, offer_id: UUID, *, lease_until: datetime, at: datetime) -> Offer:
    """Let an expert go on with what it has handed in, under the same terms, until a deadline.

    Raises:
        OfferNotFound, StateConflict.
    """
    offer = any_offer(session, offer_id, locked=True)
    offer.lease_until = lease_until
    offer.ended_at = None
    change_state(session, OFFER, offer, "rework", at=at, reason_code="rework_requested")
    return offer


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
        return _end(session, offer, "cancel", at=at, reason=reason)
    if offer.state == "accepted":
        return _end(session, offer, "release", at=at, reason=reason)
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
    return _end(
        session,
        offer,
        "release",
        at=at,
        actor_id=expert_id,
        reason=reason,
        note=note,
        keep_money=owes_time,
    )


def recall_offer(
    session: Session,
    offer_id: UUID,
    *,
    reason: str,
    owes_time: bool,
    at: datetime,
    actor_id: UUID | None = None,
) -> Offer:
    """Give back a task that was asked back, by its expert or by its silence; nothing is held
    against it. `owes_time` as in `release_offer`.

    Raises:
        OfferNotFound, StateConflict.
    """
    offer = any_offer(session, offer_id, locked=True)
    return _end(
        session,
        offer,
        "release",
        at=at,
        actor_id=actor_id,
        reason=reason,
        keep_money=owes_time,
    )


def screen_out_offer(session: Session, offer_id: UUID, *, expert_id: UUID, at: datetime) -> Offer:
    """End an offer whose task says that it is not for its expert; another one gets the seat.

    The reservation stays for what the screening pays: whoever pays it posts or voids it.

    Raises:
        OfferNotFound, StateConflict.
    """
    offer = own_offer(session, offer_id, expert_id, locked=True)
    return _end(
        session,
        offer,
        "release",
        at=at,
        actor_id=expert_id,
        reason="screened_out",
        keep_money=True,
    )


def lapse_offer(session: Session, offer_id: UUID, *, at: datetime) -> bool:
    """Take back an accepted offer on which no work was begun in time; whether it was one.

    Raises:
        OfferNotFound.
    """
    offer = any_offer(session, offer_id, locked=True)
    if offer.state != "accepted" or offer.lease_until is None or offer.lease_until > at:
        return False
    _end(session, offer, "release", at=at, reason="lease_over")
    return True


def activate_offer(session: Session, offer_id: UUID, *, expert_id: UUID, at: datetime) -> Offer:
    """Begin the work of an accepted offer; a second session on it changes nothing.

    Raises:
        OfferNotFound, LeaseLost, ProjectNotLive, StateConflict.
    """
    found = session.execute(
        select(Offer, Project.state)
        .join(Project, Project.id == Offer.project_id)
        .where(Offer.id == offer_id, Offer.expert_id == expert_id)
        .with_for_update(of=Offer)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None:
        raise OfferNotFound(offer_id)
    offer, project_state = found
    if offer.state in ("active", "grace"):
        return offer
    OFFER.target(offer.state, "activate")
    if offer.lease_until is not None and offer.lease_until <= at:
        raise LeaseLost(offer.lease_until)
    if project_state != "live":
        raise ProjectNotLive(project_state)
    change_state(session, OFFER, offer, "activate", at=at, actor_id=expert_id)
    return offer


def complete_offer(session: Session, offer_id: UUID, *, expert_id: UUID, at: datetime) -> Offer:
    """The work was handed in: the offer is done, its slot submitted, and its task in review once
    every seat is filled. The money stays reserved until the verdict. Completing twice changes
    nothing.

    Raises:
        OfferNotFound, StateConflict.
    """
    offer = own_offer(session, offer_id, expert_id, locked=True)
    if offer.state != "completed":
        complete_locked(session, offer, at=at)
    return offer


def complete_locked(session: Session, offer: Offer, *, at: datetime) -> None:
    """The same for whoever holds the offer locked already.

    Raises:
        StateConflict.
    """
    OFFER.target(offer.state, "complete")
    # Locked first, and looked at by the next statement: so of two last submissions one sees the
    # other's slot.
    slot_state = session.scalar(
        select(TaskSlot.state)
        .join(Task, Task.id == TaskSlot.task_id)
        .where(TaskSlot.id == offer.slot_id)
        .with_for_update(of=[TaskSlot, Task], key_share=True)
    )
    # The seat of work that comes back from a rework was filled before.
    if slot_state not in (None, "submitted"):
        SLOT.target(slot_state, "submit")
    session.execute(
        _COMPLETE,
        {
            "offer": offer.id,
            "before": offer.state,
            "slot": offer.slot_id,
            "task": offer.task_id,
            "organisation": offer.organisation_id,
            "expert": offer.expert_id,
            "version": offer.version + 1,
            "at": at,
            "event": new_id(),
            "event_type": Event.OFFER_COMPLETED.value,
            "filled": [*FILLED, *RETIRED],
            "cause": session.info.get("cause"),
            **{f"change{n}": new_id() for n in (1, 2, 3)},
        },
    )
    forget(session, TaskSlot, offer.slot_id)
    forget(session, Task, offer.task_id)
    for name, value in {
        "state": "completed",
        "version": offer.version + 1,
        "ended_at": at,
    }.items():
        set_committed_value(offer, name, value)


def abandon_offer(
    session: Session, offer_id: UUID, *, reason: str, owes_time: bool, at: datetime
) -> Offer:
    """End work that its expert has left without a word, or that was not handed in within the grace
    after it was withdrawn; another gets the seat.

    `owes_time` as in `release_offer`. Abandoning twice changes nothing.

    Raises:
        OfferNotFound, StateConflict.
    """
    offer = any_offer(session, offer_id, locked=True)
    if offer.state == "abandoned":
        return offer
    return _end(session, offer, "abandon", at=at, reason=reason, keep_money=owes_time)


def _end(
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
