"""Reads about webhooks."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from market.attempts.models import Attempt
from market.deliveries.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookKey
from market.deliveries.rules import DeliveryNotFound, EndpointNotFound
from market.earnings.models import Earning
from market.events import EventRow
from market.feeds import Feed, FeedHead, FeedKind
from market.imports import BulkImport
from market.notices.rules import kind_of
from market.offers.models import Offer
from market.projects.models import Project
from market.reviews.models import Review
from market.submissions.models import Submission
from market.tasks.models import Task
from market.work.models import TimeEntry, WorkSession

_PROJECTS: dict[
    str,
    tuple[
        InstrumentedAttribute[UUID],
        InstrumentedAttribute[UUID] | InstrumentedAttribute[UUID | None],
    ],
] = {
    "attempt": (Attempt.id, Attempt.project_id),
    "earning": (Earning.id, Earning.project_id),
    "import": (BulkImport.id, BulkImport.project_id),
    "offer": (Offer.id, Offer.project_id),
    "project": (Project.id, Project.id),
    "review": (Review.id, Review.project_id),
    "submission": (Submission.id, Submission.project_id),
    "task": (Task.id, Task.project_id),
    "time_entry": (TimeEntry.id, TimeEntry.project_id),
    "work_session": (WorkSession.id, WorkSession.project_id),
}
"""Where the project of a kind of thing stands; other kinds belong to no project."""


def endpoints(tenant_id: UUID) -> Select[WebhookEndpoint]:
    """A tenant's endpoints, as a statement to page through."""
    return select(WebhookEndpoint).where(
        WebhookEndpoint.tenant_id == tenant_id, WebhookEndpoint.removed_at.is_(None)
    )


def endpoint(
    session: Session, endpoint_id: UUID, tenant_id: UUID, *, lock: bool = False
) -> WebhookEndpoint:
    """An endpoint of a tenant's; locked, when it is about to be changed.

    Raises:
        EndpointNotFound.
    """
    statement = endpoints(tenant_id).where(WebhookEndpoint.id == endpoint_id)
    if lock:
        statement = statement.with_for_update(key_share=True)
    found = session.scalar(statement)
    if found is None:
        raise EndpointNotFound(endpoint_id)
    return found


def deliveries(endpoint_id: UUID, state: str | None = None) -> Select[WebhookDelivery]:
    """What was and is to be sent to an endpoint, as a statement to page through."""
    statement = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
    return statement if state is None else statement.where(WebhookDelivery.state == state)


def delivery(session: Session, delivery_id: UUID, tenant_id: UUID) -> WebhookDelivery:
    """A delivery of a tenant's.

    Raises:
        DeliveryNotFound.
    """
    found = session.get(WebhookDelivery, delivery_id)
    if found is None or found.tenant_id != tenant_id:
        raise DeliveryNotFound(delivery_id)
    return found


def attempts_at(session: Session, delivery_id: UUID) -> Sequence[WebhookAttempt]:
    """Every try at a delivery, in order."""
    return session.scalars(
        select(WebhookAttempt)
        .where(WebhookAttempt.delivery_id == delivery_id)
        .order_by(WebhookAttempt.number)
    ).all()


def keys_in_force(session: Session, endpoint_id: UUID, *, at: datetime) -> Sequence[WebhookKey]:
    """The keys that sign an endpoint's webhooks now, the newest first."""
    return session.scalars(
        select(WebhookKey)
        .where(
            WebhookKey.endpoint_id == endpoint_id,
            or_(WebhookKey.retires_at.is_(None), WebhookKey.retires_at > at),
        )
        .order_by(WebhookKey.id.desc())
    ).all()


def endpoints_behind(session: Session) -> Sequence[UUID]:
    """Endpoints whose feed has gone on since its events last became deliveries."""
    return session.scalars(
        select(WebhookEndpoint.id)
        .join(FeedHead, FeedHead.tenant_id == WebhookEndpoint.tenant_id)
        .where(WebhookEndpoint.state != "disabled", WebhookEndpoint.told_seq < FeedHead.last_seq)
    ).all()


def feed_heard(owner: WebhookEndpoint) -> Feed:
    """The feed that an endpoint is told of."""
    return Feed(owner.tenant_id, FeedKind(owner.feed_kind))


def number_of_endpoints(session: Session, tenant_id: UUID) -> int:
    """How many endpoints a tenant has."""
    return session.scalar(select(func.count()).select_from(endpoints(tenant_id).subquery())) or 0


def wanted_by(session: Session, owner: WebhookEndpoint, rows: Sequence[EventRow]) -> list[EventRow]:
    """What of some events an endpoint asked for."""
    wanted = [row for row in rows if not owner.types or row.type in owner.types]
    if not owner.project_ids:
        return wanted
    project_of = _projects_of(session, wanted)
    return [row for row in wanted if project_of.get(row.id) in owner.project_ids]


def _projects_of(session: Session, rows: Sequence[EventRow]) -> dict[UUID, UUID]:
    by_kind: dict[str, list[EventRow]] = {}
    for row in rows:
        by_kind.setdefault(kind_of(row.type)[0], []).append(row)
    found: dict[UUID, UUID] = {}
    for kind, some in by_kind.items():
        if kind not in _PROJECTS:
            continue
        key, project_id = _PROJECTS[kind]
        subjects = {row.subject_id for row in some}
        known = {
            subject_id: project
            for subject_id, project in session.execute(
                select(key, project_id).where(key.in_(subjects))
            )
            if project is not None
        }
        found.update({row.id: known[row.subject_id] for row in some if row.subject_id in known})
    return found
