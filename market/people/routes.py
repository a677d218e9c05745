"""Signing up, keys and parts, over HTTP."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from sqlalchemy.orm import Session

from market.auth import Part, Principal
from market.db import PLATFORM, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    delete,
    get,
    listed,
    post,
    read_id,
    wire_id,
    wire_ids,
)
from market.people.actions import claim_identity, grant_part, make_key, revoke_key, sign_up
from market.people.models import ApiKey, Membership
from market.people.queries import claims_of, is_live, keys_of, organisation, person
from market.people.rules import DEFAULT_KEY_DAYS, PersonNotFound, scopes_of, scopes_within


class SignupIn(Wire):
    """Who wants in, and as what."""

    part: Literal["lab", "expert"]
    name: str
    email: str
    organisation_name: str | None = None


class SignupOut(Wire):
    """The new person's ids, and its first key: this is the only time that it is shown."""

    person_id: str
    part: str
    organisation_id: str | None
    api_key: str
    key_id: str
    key_expires_at: datetime


class MeOut(Wire):
    """Whoever holds the key of this request."""

    person_id: str
    name: str
    email: str
    part: str
    organisation_id: str | None
    organisation_name: str | None
    scopes: list[str]


class KeyIn(Wire):
    """A key to be made, for the part that the asking key plays."""

    name: str
    scopes: list[str] | None = None
    days: int = DEFAULT_KEY_DAYS


class KeyOut(Wire):
    """A key without its secret."""

    id: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    is_live: bool


class NewKeyOut(KeyOut):
    """A key just made, with its text: shown once."""

    api_key: str


class PartIn(Wire):
    """A part that ops hands to a person."""

    part: Literal["reviewer", "ops", "expert"]


class PartOut(Wire):
    """A part that a person has now, with a first key for it: shown once."""

    person_id: str
    part: str
    api_key: str


class IdentityClaimIn(Wire):
    """What tells who a person is, as ops or a provider of payments have it."""

    kind: Literal["device", "payout_account", "phone", "document", "institution"]
    value: str


class OwnClaimIn(Wire):
    """What a person says about itself."""

    kind: Literal["device", "institution"]
    value: str


class IdentityClaimOut(Wire):
    """Something that is kept as a hash."""

    kind: str
    source: str
    at: datetime


class IdentityClaimsOut(Wire):
    """All that is kept of who a person is."""

    items: list[IdentityClaimOut]


@post("/signups", scope=None, status_code=HTTP_201_CREATED, tags=["People"])
def post_signup(data: JSONBody[SignupIn]) -> SignupOut:
    """Sign up as a lab or as an expert and get a key."""
    part = Part(data.part)
    with database.begin(PLATFORM) as session:
        joined = sign_up(
            session,
            part=part,
            name=data.name,
            email=data.email,
            organisation_name=data.organisation_name,
            at=now(),
        )
        return SignupOut(
            person_id=wire_id("per", joined.person.id),
            part=part.value,
            organisation_id=wire_ids("org", joined.membership.organisation_id),
            api_key=joined.secret,
            key_id=wire_id("key", joined.key.id),
            key_expires_at=joined.key.expires_at,
        )


@get("/me", scope="key:write", tags=["People"])
def get_me(principal: NamedDependency[Principal]) -> MeOut:
    """Who this key is."""
    with database.begin() as session:
        found = person(session, principal.person_id)
        if found is None:
            raise PersonNotFound(principal.person_id)
        lab = (
            organisation(session, principal.organisation_id) if principal.organisation_id else None
        )
        return MeOut(
            person_id=wire_id("per", found.id),
            name=found.name,
            email=found.email,
            part=principal.part.value,
            organisation_id=wire_ids("org", principal.organisation_id),
            organisation_name=lab.name if lab else None,
            scopes=sorted(principal.scopes),
        )


@get("/keys", scope="key:write", tags=["People"])
def get_keys(
    principal: NamedDependency[Principal], limit: Limit = 50, cursor: Cursor = None
) -> Page[KeyOut]:
    """Your keys, newest first, without their secrets."""
    with database.begin(PLATFORM) as session:
        return listed(
            session,
            keys_of(principal.person_id),
            ApiKey.id,
            _key_out,
            limit=limit,
            cursor=cursor,
            filters=str(principal.person_id),
        )


@post("/keys", scope="key:write", status_code=HTTP_201_CREATED, tags=["People"])
def post_key(data: JSONBody[KeyIn], principal: NamedDependency[Principal]) -> NewKeyOut:
    """Make another key, with the scopes of this one or fewer."""
    wanted = frozenset(data.scopes) if data.scopes is not None else None
    scopes = scopes_within(wanted, principal.scopes)
    with database.begin(PLATFORM) as session:
        asking = session.get_one(ApiKey, principal.key_id)
        membership = session.get_one(Membership, asking.membership_id)
        key, secret = make_key(
            session, membership, name=data.name, scopes=scopes, days=data.days, at=now()
        )
        return NewKeyOut(**msgspec.structs.asdict(_key_out(key)), api_key=secret)


@delete("/keys/{key_id:str}", scope="key:write", status_code=HTTP_200_OK, tags=["People"])
def delete_key(key_id: FromPath[str], principal: NamedDependency[Principal]) -> KeyOut:
    """End a key of yours at once."""
    with database.begin(PLATFORM) as session:
        key = revoke_key(session, read_id("key", key_id), person_id=principal.person_id, at=now())
        return _key_out(key)


@post(
    "/people/{person_id:str}/parts",
    scope="people:write",
    status_code=HTTP_201_CREATED,
    tags=["People"],
)
def post_part(person_id: FromPath[str], data: JSONBody[PartIn]) -> PartOut:
    """Let a person play another part, and make its first key."""
    part = Part(data.part)
    with database.begin() as session:
        membership = grant_part(
            session, read_id("per", person_id), part, organisation_id=None, at=now()
        )
        _, secret = make_key(
            session,
            membership,
            name=f"first {part.value} key",
            scopes=scopes_of(part),
            days=DEFAULT_KEY_DAYS,
            at=now(),
        )
        return PartOut(
            person_id=wire_id("per", membership.person_id), part=part.value, api_key=secret
        )


@post(
    "/people/{person_id:str}/identity-claims",
    scope="people:write",
    status_code=HTTP_201_CREATED,
    tags=["People"],
)
def post_identity_claim(
    person_id: FromPath[str], data: JSONBody[IdentityClaimIn]
) -> IdentityClaimsOut:
    """Note what tells who a person is; it is kept as a hash."""
    found = read_id("per", person_id)
    with database.begin() as session:
        claim_identity(session, found, data.kind, data.value, source="ops", at=now())
        return _claims_out(session, found)


@post("/me/identity-claims", scope="key:write", status_code=HTTP_201_CREATED, tags=["People"])
def post_own_claim(
    data: JSONBody[OwnClaimIn], principal: NamedDependency[Principal]
) -> IdentityClaimsOut:
    """Say which institution you belong to, or by which device you work; you review nobody of it."""
    # As the platform, since who is tied to whom is nobody's to read.
    with database.begin(PLATFORM) as session:
        claim_identity(
            session, principal.person_id, data.kind, data.value, source="own word", at=now()
        )
        return _claims_out(session, principal.person_id)


@get("/me/identity-claims", scope="key:write", tags=["People"])
def get_own_claims(principal: NamedDependency[Principal]) -> IdentityClaimsOut:
    """What is kept that tells who you are: its kind, where it came from, and since when."""
    with database.begin(PLATFORM) as session:
        return _claims_out(session, principal.person_id)


def _claims_out(session: Session, person_id: UUID) -> IdentityClaimsOut:
    return IdentityClaimsOut(
        items=[
            IdentityClaimOut(kind=one.kind, source=one.source, at=one.at)
            for one in session.scalars(claims_of(person_id))
        ]
    )


def _key_out(key: ApiKey) -> KeyOut:
    return KeyOut(
        id=wire_id("key", key.id),
        name=key.name,
        scopes=key.scopes,
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
        is_live=is_live(key, now()),
    )


ROUTES: list[HTTPRouteHandler] = [
    post_signup,
    get_me,
    get_keys,
    post_key,
    delete_key,
    post_part,
    post_identity_claim,
    post_own_claim,
    get_own_claims,
]
