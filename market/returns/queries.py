"""Reads of requests to give a task back."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from market.filters import narrowed
from market.offers.models import Offer
from market.returns.models import ReturnRequest
from market.returns.rules import HOLDING, ReturnRequestNotFound
from market.tasks.models import Task


def return_request(session: Session, request_id: UUID, *, locked: bool = False) -> ReturnRequest:
    """The request with this id, if the caller may see it.

    Raises:
        ReturnRequestNotFound.
    """
    wanted = select(ReturnRequest).where(ReturnRequest.id == request_id)
    if locked:
        wanted = wanted.with_for_update().execution_options(populate_existing=True)
    found = session.scalar(wanted)
    if found is None:
        raise ReturnRequestNotFound(request_id)
    return found


def return_requests(
    *, project_id: UUID | None = None, state: str | None = None
) -> Select[ReturnRequest]:
    """Requests that the caller may see, as a statement to page through."""
    return narrowed(
        select(ReturnRequest), (ReturnRequest.project_id, project_id), (ReturnRequest.state, state)
    )


def due_requests(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Requests whose time has come, and those for which there is nothing to give back any more."""
    return list(
        session.scalars(
            select(ReturnRequest.id)
            .join(Offer, Offer.id == ReturnRequest.offer_id)
            .where(
                ReturnRequest.state == "asked",
                or_(ReturnRequest.due_at <= at, Offer.state.not_in(HOLDING)),
            )
            .order_by(ReturnRequest.due_at)
            .limit(limit)
        )
    )


def asked_of(session: Session, offer_ids: Collection[UUID]) -> dict[UUID, ReturnRequest]:
    """The request that waits for an answer, by offer."""
    wanted = select(ReturnRequest).where(
        ReturnRequest.offer_id.in_(offer_ids), ReturnRequest.state == "asked"
    )
    return {one.offer_id: one for one in session.scalars(wanted)}


def held_offers(project_id: UUID | None = None) -> Select[Offer, Task]:
    """Tasks that somebody holds and has not handed in, with their offers."""
    statement = (
        select(Offer, Task).join(Task, Task.id == Offer.task_id).where(Offer.state.in_(HOLDING))
    )
    return statement if project_id is None else statement.where(Offer.project_id == project_id)
