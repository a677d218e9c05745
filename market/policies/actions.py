"""How a policy comes to be, and becomes the default."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from market.events import Event, emit
from market.policies.models import PolicyDefault, PolicyVersion
from market.policies.queries import policy
from market.policies.rules import DEFAULT_NAME, ReasonBlank, checked_name, read_policy


def publish_policy(
    session: Session,
    *,
    name: str,
    document: Mapping[str, object],
    reason: str,
    author_id: UUID | None,
    at: datetime,
) -> PolicyVersion:
    """Add a version to a policy, or the first one of a new policy; equal settings to the newest
    version's give that version back.

    Raises:
        PolicyNameInvalid, PolicyRefused, ReasonBlank.
    """
    checked_name(name)
    settings = read_policy(document)
    if not 1 <= len(reason.strip()) <= 2000:
        raise ReasonBlank()
    # Version numbers of one name are given out one at a time.
    session.execute(
        text("select pg_advisory_xact_lock(hashtextextended('policy ' || :name, 7))"),
        {"name": name},
    )
    newest = session.scalar(
        select(PolicyVersion)
        .where(PolicyVersion.name == name)
        .order_by(PolicyVersion.version_no.desc())
        .limit(1)
    )
    digest = settings.digest()
    if newest is not None and newest.digest == digest:
        return newest
    last = session.scalar(
        select(func.coalesce(func.max(PolicyVersion.version_no), 0)).where(
            PolicyVersion.name == name
        )
    )
    version = PolicyVersion(
        name=name,
        version_no=(last or 0) + 1,
        document=settings.to_dict(),
        digest=digest,
        reason=reason.strip(),
        created_at=at,
        author_id=author_id,
    )
    session.add(version)
    session.flush()
    emit(session, Event.POLICY_PUBLISHED, version.id, at=at, actor_id=author_id)
    return version


def choose_default_policy(
    session: Session, policy_id: UUID, *, actor_id: UUID | None, at: datetime
) -> PolicyDefault:
    """Make a policy version the one that runs obey when they name none.

    Raises:
        PolicyNotFound.
    """
    chosen = policy(session, policy_id)
    row = session.get_one(PolicyDefault, DEFAULT_NAME, with_for_update=True)
    if row.policy_id != chosen.id:
        row.policy_id = chosen.id
        row.since = at
        row.version += 1
        session.flush()
        emit(
            session,
            Event.POLICY_PUBLISHED,
            chosen.id,
            at=at,
            actor_id=actor_id,
            data={"default": True},
        )
    return row
