"""A person's own record and attestations, over HTTP."""

import base64
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import Meta

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.http import Wire, get, post
from market.records.actions import attest_skills, publish_key
from market.records.queries import lines_of, published_keys
from market.records.rules import verified
from market.settings import in_force

FILE = 'attachment; filename="record.jsonl"'


class AttestationOut(Wire):
    """An attestation: a text, and the Ed25519 signature over its very bytes, in base64."""

    document: str
    signature: str


class AttestationIn(AttestationOut):
    """An attestation as it was handed on."""

    document: Annotated[str, Meta(max_length=200_000)]
    signature: Annotated[str, Meta(max_length=200)]


class SkillOut(Wire):
    """One skill that an attestation vouches for, as it was when it was signed."""

    domain: str
    qualification_id: str
    granted_at: datetime
    ends_at: datetime
    score: int | None
    accepted: int
    stumps: int


class VerifiedOut(Wire):
    """What a genuine attestation says."""

    id: str
    person_id: str
    name: str
    issued_at: datetime
    skills: list[SkillOut]


class JwkOut(Wire):
    """A public key. Source: RFC 8037."""

    kid: str
    kty: str
    crv: str
    x: str
    use: str


class KeysOut(Wire):
    """Every key under which attestations were signed, also under earlier secrets."""

    keys: list[JwkOut]


def record_lines(person_id: UUID) -> Iterator[bytes]:
    """A person's whole record, in one transaction as long as it is read."""
    with database.begin(PLATFORM) as session:
        yield from lines_of(session, person_id, at=now())


@get("/record/me", scope="event:read", tags=["Records"], media_type="application/x-ndjson")
def get_record(principal: NamedDependency[Principal]) -> Stream:
    """Everything that is kept about you, as JSON lines: your work, its verdicts and scores, your
    pay, and every state by which something is decided about you.
    """
    return Stream(
        record_lines(principal.person_id),
        media_type="application/x-ndjson",
        headers={"Content-Disposition": FILE, "Cache-Control": "no-store"},
    )


@post("/attestations", scope="event:read", status_code=HTTP_201_CREATED, tags=["Records"])
def post_attestation(principal: NamedDependency[Principal]) -> AttestationOut:
    """A signed word on the skills of yours that are verified now, for whomever you show it to."""
    with database.begin(PLATFORM) as session:
        made = attest_skills(
            session, principal.person_id, issuer=in_force.settings.public_url, at=now()
        )
        return AttestationOut(document=made.document, signature=made.signature)


@post(
    "/attestations:verify",
    scope=None,
    status_code=HTTP_200_OK,
    tags=["Records"],
)
def post_verification(data: JSONBody[AttestationIn]) -> VerifiedOut:
    """Whether an attestation is as it was signed, and what it says. Needs no key, and neither does
    checking it yourself with the published keys.
    """
    with database.begin(PLATFORM) as session:
        keys = published_keys(session)
    said = verified(data.document, data.signature, keys)
    return msgspec.convert(
        {
            "id": said["id"],
            "person_id": said["person"]["id"],
            "name": said["person"]["name"],
            "issued_at": said["issued_at"],
            "skills": said["skills"],
        },
        VerifiedOut,
    )


@get("/attestation-keys", scope=None, tags=["Records"])
def get_attestation_keys() -> KeysOut:
    """The public keys that attestations are checked with."""
    with database.begin(PLATFORM) as session:
        publish_key(session, at=now())
        keys = published_keys(session)
    return KeysOut(
        keys=[
            JwkOut(
                kid=name,
                kty="OKP",
                crv="Ed25519",
                x=base64.urlsafe_b64encode(public).decode().rstrip("="),
                use="sig",
            )
            for name, public in sorted(keys.items())
        ]
    )


ROUTES: list[HTTPRouteHandler] = [
    get_record,
    post_attestation,
    post_verification,
    get_attestation_keys,
]
