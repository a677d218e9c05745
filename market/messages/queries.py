"""Reads of messages: whom one would reach, and how each copy went."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from market.experts.models import Expert
from market.experts.rules import WORKING
from market.expressions.queries import matching_experts
from market.inbox.models import Letter, Notification
from market.language import Tree
from market.messages.models import CohortMessage, MessageCopy
from market.messages.rules import MessageNotFound
from market.offers.models import Offer

WORKED = ("accepted", "active", "grace", "completed", "released", "abandoned")
"""The states of an offer that make its expert one of a lab's own people."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How the copies of a message went: all of them, those mailed or waiting to be, those that
    wait for a digest, those whose letter could not be delivered, and those read.
    """

    told: int
    mailed: int
    in_digest: int
    failed: int
    read: int


def reachable(
    session: Session, tree: Tree, organisation_id: UUID | None, *, at: datetime
) -> list[UUID]:
    """Everybody for whom an expression holds and who can work; for a lab, of those who have worked
    for it. Runs as the platform.
    """
    matching = set(matching_experts(session, tree, at=at))
    if not matching:
        return []
    wanted = select(Expert.id).where(Expert.state.in_(WORKING))
    if organisation_id is not None:
        wanted = wanted.where(
            Expert.id.in_(
                select(Offer.expert_id).where(
                    Offer.organisation_id == organisation_id, Offer.state.in_(WORKED)
                )
            )
        )
    return [one for one in session.scalars(wanted.order_by(Expert.id)) if one in matching]


def messages() -> Select[CohortMessage]:
    """Messages that the caller may see, as a statement to page through."""
    return select(CohortMessage)


def message(session: Session, message_id: UUID) -> CohortMessage:
    """The message with this id.

    Raises:
        MessageNotFound.
    """
    found = session.scalar(select(CohortMessage).where(CohortMessage.id == message_id))
    if found is None:
        raise MessageNotFound()
    return found


def reached(session: Session, message_id: UUID) -> Reached:
    """How the copies of a message went. Runs as the platform."""

    row = session.execute(
        select(
            func.count(),
            func.count().filter(Notification.mail == "now"),
            func.count().filter(Notification.mail == "digest", Notification.letter_id.is_(None)),
            func.count().filter(Letter.state == "failed"),
            func.count().filter(Notification.read_at.is_not(None)),
        )
        .select_from(MessageCopy)
        .join(Notification, Notification.id == MessageCopy.notification_id)
        .outerjoin(Letter, Letter.id == Notification.letter_id)
        .where(MessageCopy.message_id == message_id)
    ).one()
    return Reached(*row)


def copies(
    session: Session, message_id: UUID, *, after: UUID | None, limit: int
) -> list[tuple[MessageCopy, Notification, Letter | None]]:
    """Who got a message and how, in the order of their ids. Runs as the platform."""
    wanted = (
        select(MessageCopy, Notification, Letter)
        .join(Notification, Notification.id == MessageCopy.notification_id)
        .outerjoin(Letter, Letter.id == Notification.letter_id)
        .where(MessageCopy.message_id == message_id)
        .order_by(MessageCopy.person_id)
        .limit(limit)
    )
    if after is not None:
        wanted = wanted.where(MessageCopy.person_id > after)
    return [(copy, note, letter) for copy, note, letter in session.execute(wanted)]
