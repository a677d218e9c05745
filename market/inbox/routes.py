"""What people are told, over HTTP: the list, read marks and preferences."""

from datetime import datetime, timedelta
from typing import Annotated

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK
from msgspec import UNSET, Meta, UnsetType

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    expect_version,
    get,
    listed,
    patch,
    post,
    read_id,
    tagged,
    wire_id,
)
from market.inbox.actions import change_preference, mark_read, preference_of
from market.inbox.models import NoticePreference, Notification
from market.inbox.queries import feedback, notifications, unread
from market.inbox.rules import TOPICS, Digest, Mail
from market.notices.rules import kind_of
from market.projects.queries import project

Days = Annotated[int, QueryParameter(ge=1, le=366, description="How far to look back, days.")]
Unread = Annotated[bool, QueryParameter(name="unread", description="Only what is not read yet.")]


class NotificationOut(Wire):
    """One thing that you were told; `resource` is what it is about."""

    id: str
    type: str
    topic: str
    title: str
    text: str
    resource: str
    created_at: datetime
    read_at: datetime | None


class SpanOut(Wire):
    """Seconds since work was handed in, below which half of it lies, and 95 in 100."""

    p50: float
    p95: float


class FeedbackOut(Wire):
    """How soon authors have verdicts: decided, told to them in their feed of events, and read.

    Seen is when the author marked the notification of it as read, told from five of them on;
    whoever never does is not among them.
    """

    project_id: str
    since: datetime
    verdicts: int
    read: int
    decided: SpanOut | None
    told: SpanOut | None
    seen: SpanOut | None


class UnreadOut(Wire):
    """How much you have not read."""

    unread: int


class ReadIn(Wire):
    """What was read; no ids means everything."""

    ids: Annotated[list[str], Meta(max_length=500)] | None = None


class PreferenceOut(Wire):
    """How you are told: by e-mail at once, in a digest at an hour of your own day, or here only.

    `mails` is what you chose; any other of the `topics` goes as suits what happened.
    """

    timezone: str
    digest: Digest
    hour: int
    mails: dict[str, Mail]
    topics: list[str]
    next_digest_at: datetime
    version: int


class PreferencePatch(Wire):
    """What changes of how you are told; a topic that is left out stays."""

    timezone: str | UnsetType = UNSET
    digest: Digest | UnsetType = UNSET
    hour: int | UnsetType = UNSET
    mails: dict[str, Mail] | UnsetType = UNSET


@get("/notifications", scope="event:read", tags=["Notifications"])
def get_notifications(
    principal: NamedDependency[Principal],
    is_unread: Unread = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[NotificationOut]:
    """What you were told, newest first."""
    with database.begin(PLATFORM) as session:
        return listed(
            session,
            notifications(principal.person_id, is_unread=is_unread),
            Notification.id,
            _notification_out,
            limit=limit,
            cursor=cursor,
            filters=f"notifications {principal.person_id} {is_unread}",
        )


@get("/notifications/unread", scope="event:read", tags=["Notifications"])
def get_unread(principal: NamedDependency[Principal]) -> UnreadOut:
    """How much you have not read."""
    with database.begin(PLATFORM) as session:
        return UnreadOut(unread=unread(session, principal.person_id))


@post(
    "/notifications/read",
    scope="event:read",
    status_code=HTTP_200_OK,
    tags=["Notifications"],
)
def post_read(data: JSONBody[ReadIn], principal: NamedDependency[Principal]) -> UnreadOut:
    """Mark some as read, or all; the answer is what is left."""
    ids = [read_id("ntf", one) for one in data.ids or ()]
    with database.begin(PLATFORM) as session:
        if data.ids != []:
            mark_read(session, principal.person_id, ids, at=now())
        return UnreadOut(unread=unread(session, principal.person_id))


@get("/projects/{project_id:str}/feedback", scope="project:read", tags=["Projects"])
def get_feedback(project_id: FromPath[str], days: Days = 28) -> FeedbackOut:
    """How soon those who hand work in have the verdict on it, in the last days."""
    since = now() - timedelta(days=days)
    with database.begin() as session:
        found = project(session, read_id("prj", project_id)).id
    # As the platform, since what people have read is their own; only quantiles are told.
    with database.begin(PLATFORM) as session:
        seen = feedback(session, found, since=since)
    return FeedbackOut(
        project_id=project_id,
        since=since,
        verdicts=seen.verdicts,
        read=seen.read,
        decided=None if seen.decided_s is None else SpanOut(*seen.decided_s),
        told=None if seen.told_s is None else SpanOut(*seen.told_s),
        seen=None if seen.read_s is None else SpanOut(*seen.read_s),
    )


@get("/notification-preferences", scope="event:read", tags=["Notifications"])
def get_preferences(principal: NamedDependency[Principal]) -> Response[PreferenceOut]:
    """How you are told of each topic."""
    with database.begin(PLATFORM) as session:
        found = preference_of(session, principal.person_id, at=now())
        return tagged(_preference_out(found), found.version)


@patch("/notification-preferences", scope="event:read", tags=["Notifications"])
def patch_preferences(
    data: JSONBody[PreferencePatch], principal: NamedDependency[Principal]
) -> Response[PreferenceOut]:
    """Be told otherwise from now on."""
    with database.begin(PLATFORM) as session:
        found = preference_of(session, principal.person_id, at=now())
        session.refresh(found, with_for_update=True)
        expect_version(found.version, required=False)
        kept = {topic: Mail(mail) for topic, mail in found.mails.items()}
        change_preference(
            session,
            found,
            timezone=found.timezone if data.timezone is UNSET else data.timezone,
            digest=Digest(found.digest) if data.digest is UNSET else data.digest,
            hour=found.hour if data.hour is UNSET else data.hour,
            mails=kept if data.mails is UNSET else kept | data.mails,
            at=now(),
        )
        return tagged(_preference_out(found), found.version)


def _notification_out(row: Notification) -> NotificationOut:
    prefix = kind_of(row.event_type)[1]
    return NotificationOut(
        id=wire_id("ntf", row.id),
        type=row.event_type,
        topic=row.topic,
        title=row.title,
        text=row.content,
        resource=wire_id(prefix, row.subject_id) if prefix else row.subject_id.hex,
        created_at=row.created_at,
        read_at=row.read_at,
    )


def _preference_out(row: NoticePreference) -> PreferenceOut:
    return PreferenceOut(
        timezone=row.timezone,
        digest=Digest(row.digest),
        hour=row.hour,
        mails={topic: Mail(mail) for topic, mail in row.mails.items()},
        topics=list(TOPICS),
        next_digest_at=row.next_digest_at,
        version=row.version,
    )


ROUTES: list[HTTPRouteHandler] = [
    get_feedback,
    get_notifications,
    get_unread,
    post_read,
    get_preferences,
    patch_preferences,
]
