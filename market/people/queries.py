"""Reads about people and keys."""

import hmac
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Boolean, ColumnElement, Select, func, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import SQLCoreOperations

from market.auth import KeyRefused, Part, Principal, digest_of, read_key, tell_of
from market.db import PLATFORM, database, now
from market.people.models import (
    ApiKey,
    IdentityClaim,
    Membership,
    Organisation,
    Person,
    Visit,
)
from market.people.rules import KeyNotFound

LAST_USED_STEP = timedelta(minutes=1)
"""How exactly `last_used_at` is kept, so that reading a key is not a write each time."""

_KEY = select(
    ApiKey.digest,
    ApiKey.scopes,
    ApiKey.expires_at,
    ApiKey.revoked_at,
    ApiKey.last_used_at,
    Membership.person_id,
    Membership.part,
    Membership.organisation_id,
    Membership.ended_at,
).join(Membership, Membership.id == ApiKey.membership_id)


def principal_of(key: str) -> Principal:
    """Whoever holds a key, in a transaction of its own: what every request begins with.

    Raises:
        KeyRefused.
    """
    key_id, digest = read_key(key)
    at = now()
    with database.begin(PLATFORM) as session:
        return _principal(session, key_id, at, digest)


def principal_of_visit(token: str) -> Principal | None:
    """Whoever came in with a cookie; nobody when the visit is over or its key no longer opens."""
    at = now()
    with database.begin(PLATFORM) as session:
        key_id = session.scalar(
            select(Visit.key_id).where(Visit.digest == digest_of(token), Visit.expires_at > at)
        )
        if key_id is None:
            return None
        try:
            return _principal(session, key_id, at)
        except KeyRefused:
            return None


def _principal(
    session: Session, key_id: UUID, at: datetime, digest: bytes | None = None
) -> Principal:
    row = session.execute(_KEY.where(ApiKey.id == key_id)).one_or_none()
    if row is None or (digest is not None and not hmac.compare_digest(row.digest, digest)):
        raise KeyRefused("is unknown")
    if row.revoked_at is not None or row.ended_at is not None:
        raise KeyRefused("was revoked")
    if row.expires_at <= at:
        raise KeyRefused(f"expired at {row.expires_at:%Y-%m-%dT%H:%M:%SZ}")
    if row.last_used_at is None or at - row.last_used_at > LAST_USED_STEP:
        session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=at))
    return Principal(
        person_id=row.person_id,
        part=Part(row.part),
        organisation_id=row.organisation_id,
        scopes=frozenset(row.scopes),
        key_id=key_id,
    )


def person(session: Session, person_id: UUID) -> Person | None:
    """The person with this id."""
    return session.get(Person, person_id)


def names_of(session: Session, person_ids: Iterable[UUID | None]) -> dict[UUID, str]:
    """What people are called, by their ids; ids that are absent are passed over."""
    known = {one for one in person_ids if one is not None}
    tell_of(*known)
    return dict(session.execute(select(Person.id, Person.name).where(Person.id.in_(known))).all())


def organisation_names(session: Session, ids: Iterable[UUID | None]) -> dict[UUID, str]:
    """What organisations are called, by their ids."""
    known = {one for one in ids if one is not None}
    wanted = select(Organisation.id, Organisation.name).where(Organisation.id.in_(known))
    return dict(session.execute(wanted).all())


def organisation(session: Session, organisation_id: UUID) -> Organisation | None:
    """The organisation with this id."""
    return session.get(Organisation, organisation_id)


def keys_of(person_id: UUID) -> Select[ApiKey]:
    """All keys of a person, as a statement to page through."""
    return select(ApiKey).join(Membership).where(Membership.person_id == person_id)


def own_key(session: Session, key_id: UUID, person_id: UUID) -> ApiKey:
    """One key of a person's.

    Raises:
        KeyNotFound.
    """
    found = session.scalar(keys_of(person_id).where(ApiKey.id == key_id))
    if found is None:
        raise KeyNotFound(key_id)
    return found


def is_live(key: ApiKey, at: datetime) -> bool:
    """Whether a key opens anything at a time."""
    return key.revoked_at is None and key.expires_at > at


def refused_keys(key_ids: Collection[UUID], *, at: datetime) -> set[UUID]:
    """Which of some keys open nothing any more: revoked, expired, or of a part that ended."""
    with database.begin(PLATFORM) as session:
        return set(
            session.scalars(
                select(ApiKey.id)
                .join(Membership, Membership.id == ApiKey.membership_id)
                .where(
                    ApiKey.id.in_(key_ids),
                    or_(
                        ApiKey.revoked_at.is_not(None),
                        ApiKey.expires_at <= at,
                        Membership.ended_at.is_not(None),
                    ),
                )
            )
        )


def in_conflict(
    one: UUID | SQLCoreOperations[UUID] | SQLCoreOperations[UUID | None],
    other: UUID | SQLCoreOperations[UUID],
) -> ColumnElement[bool]:
    """Whether two people are the same hand, over however many shared claims, or tied to each other
    by an institution or an organisation: the one rule for reviews and appeals, kept in SQL.
    """
    return func.market.in_conflict(one, other, type_=Boolean())


def claims_of(person_id: UUID) -> Select[IdentityClaim]:
    """What is known to tell who a person is."""
    return (
        select(IdentityClaim)
        .where(IdentityClaim.person_id == person_id)
        .order_by(IdentityClaim.kind, IdentityClaim.at)
    )
