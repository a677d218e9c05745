"""What becomes of a seat while its expert works in it: begun, handed in, given back, left.

These actions run as the platform, and lock in the order of `market.offers.actions`.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, DateTime, Text, Uuid, bindparam, select, text
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from market.db import forget, new_id
from market.events import Event, change_state
from market.offers.actions import end_offer
from market.offers.models import Offer
from market.offers.queries import offer as any_offer
from market.offers.queries import own_offer
from market.offers.rules import OFFER, LeaseLost, OfferNotFound, ProjectNotLive
from market.projects.models import Project
from market.tasks.models import Task, TaskSlot
from market.tasks.rules import FILLED, RETIRED, SLOT

_TO_BEGIN = (
    select(Offer, Project.state)
    .join(Project, Project.id == Offer.project_id)
    .where(Offer.id == bindparam("offer"), Offer.expert_id == bindparam("expert"))
    .with_for_update(of=Offer)
    .execution_options(populate_existing=True)
)

_SEAT = (
    select(TaskSlot.state)
    .join(Task, Task.id == TaskSlot.task_id)
    .where(TaskSlot.id == bindparam("slot"))
    .with_for_update(of=[TaskSlot, Task], key_share=True)
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
    return end_offer(
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
    return end_offer(
        session,
        offer,
        "release",
        at=at,
        actor_id=expert_id,
        reason="screened_out",
        keep_money=True,
    )


def activate_offer(session: Session, offer_id: UUID, *, expert_id: UUID, at: datetime) -> Offer:
    """Begin the work of an accepted offer; a second session on it changes nothing.

    Raises:
        OfferNotFound, LeaseLost, ProjectNotLive, StateConflict.
    """
    found = session.execute(_TO_BEGIN, {"offer": offer_id, "expert": expert_id}).one_or_none()
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
    slot_state = session.scalar(_SEAT, {"slot": offer.slot_id})
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
    return end_offer(session, offer, "abandon", at=at, reason=reason, keep_money=owes_time)
