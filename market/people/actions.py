"""How someone joins, gets a part, and gets or loses a key."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from market.auth import Part, SecretKey, digest_of
from market.db import new_id
from market.events import Event, emit
from market.people.models import ApiKey, IdentityClaim, Membership, Organisation, Person, Visit
from market.people.queries import own_key
from market.people.rules import (
    DEFAULT_KEY_DAYS,
    EMAIL,
    MAX_KEY_DAYS,
    VISIT_LASTS,
    EmailInvalid,
    EmailTaken,
    KeyLifetime,
    NameBlank,
    PersonNotFound,
    claim_digest,
    scopes_of,
    scopes_within,
)


@dataclass(frozen=True, slots=True)
class Joined:
    """Who joined, and the key that is shown once."""

    person: Person
    membership: Membership
    organisation: Organisation | None
    key: ApiKey
    secret: str


def sign_up(
    session: Session,
    *,
    part: Part,
    name: str,
    email: str,
    at: datetime,
    organisation_name: str | None = None,
) -> Joined:
    """Let a person in: as a lab with a new organisation, or in any other part alone.

    Raises:
        EmailInvalid, EmailTaken, NameBlank.
    """
    if not EMAIL.fullmatch(email):
        raise EmailInvalid(email)
    if not 1 <= len(name.strip()) <= 200:
        raise NameBlank("name")
    person = Person(name=name.strip(), email=email, created_at=at)
    try:
        with session.begin_nested():
            session.add(person)
    except IntegrityError:
        raise EmailTaken(email) from None
    organisation = None
    if part is Part.LAB:
        if not 1 <= len((organisation_name or "").strip()) <= 200:
            raise NameBlank("organisation_name")
        organisation = Organisation(name=(organisation_name or "").strip(), created_at=at)
        session.add(organisation)
        session.flush()
        emit(
            session,
            Event.ORGANISATION_JOINED,
            organisation.id,
            at=at,
            organisation_id=organisation.id,
            actor_id=person.id,
        )
    membership = grant_part(
        session,
        person.id,
        part,
        organisation_id=organisation.id if organisation else None,
        at=at,
    )
    key, secret = make_key(
        session, membership, name="first key", scopes=scopes_of(part), days=DEFAULT_KEY_DAYS, at=at
    )
    emit(session, Event.PERSON_JOINED, person.id, at=at, person_id=person.id, actor_id=person.id)
    return Joined(person, membership, organisation, key, secret)


def grant_part(
    session: Session, person_id: UUID, part: Part, *, organisation_id: UUID | None, at: datetime
) -> Membership:
    """Let a person play a part; granting it twice changes nothing.

    Raises:
        PersonNotFound.
    """
    if session.get(Person, person_id) is None:
        raise PersonNotFound(person_id)
    found = session.scalar(
        select(Membership).where(
            Membership.person_id == person_id,
            Membership.part == part.value,
            Membership.organisation_id.is_not_distinct_from(organisation_id),
        )
    )
    if found is not None:
        found.ended_at = None
        return found
    membership = Membership(
        person_id=person_id, part=part.value, organisation_id=organisation_id, created_at=at
    )
    session.add(membership)
    session.flush()
    return membership


def make_key(
    session: Session,
    membership: Membership,
    *,
    name: str,
    scopes: frozenset[str],
    days: int,
    at: datetime,
) -> tuple[ApiKey, str]:
    """A key for a membership, and its text, which nobody can read again later.

    Raises:
        KeyLifetime, NameBlank, ScopesBeyond.
    """
    if not 1 <= days <= MAX_KEY_DAYS:
        raise KeyLifetime(days)
    if not 1 <= len(name.strip()) <= 200:
        raise NameBlank("name")
    allowed = scopes_within(scopes, scopes_of(Part(membership.part)))
    secret = SecretKey(new_id())
    key = ApiKey(
        id=secret.key_id,
        membership_id=membership.id,
        name=name.strip(),
        digest=secret.digest,
        scopes=sorted(allowed),
        created_at=at,
        expires_at=at + timedelta(days=days),
    )
    session.add(key)
    session.flush()
    return key, secret.text


def revoke_key(session: Session, key_id: UUID, *, person_id: UUID, at: datetime) -> ApiKey:
    """End a key at once; ending it twice changes nothing.

    Raises:
        KeyNotFound.
    """
    key = own_key(session, key_id, person_id)
    if key.revoked_at is None:
        key.revoked_at = at
    session.flush()
    return key


def claim_identity(
    session: Session, person_id: UUID, kind: str, value: str, *, source: str, at: datetime
) -> bool:
    """Note what tells who a person is; whether it was news. Reviews in conflict by it are taken
    back as a reaction.

    Raises:
        ClaimInvalid, PersonNotFound.
    """
    digest = claim_digest(kind, value)
    if session.get(Person, person_id) is None:
        raise PersonNotFound(person_id)
    added = session.scalar(
        insert(IdentityClaim)
        .values(person_id=person_id, kind=kind, digest=digest, source=source, at=at)
        .on_conflict_do_nothing()
        .returning(IdentityClaim.kind)
    )
    if added is None:
        return False
    emit(session, Event.IDENTITY_CLAIMED, person_id, at=at, data={"kind": kind, "source": source})
    return True


def open_visit(session: Session, key_id: UUID, *, at: datetime) -> str:
    """Let a browser in with a key, for twelve hours: the text of its cookie, kept as a hash."""
    token = secrets.token_urlsafe(32)
    session.add(
        Visit(digest=digest_of(token), key_id=key_id, began_at=at, expires_at=at + VISIT_LASTS)
    )
    session.flush()
    return token


def end_visit(session: Session, token: str) -> None:
    """Forget a browser; forgetting it twice changes nothing."""
    session.execute(delete(Visit).where(Visit.digest == digest_of(token)))
