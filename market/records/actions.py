"""How attestations are given out; each of these runs as the platform."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from market.auth import keyring
from market.db import new_id
from market.http import wire_id
from market.people.models import Person
from market.records.models import Attestation, AttestationKey
from market.records.queries import skills_of
from market.records.rules import attestation, canonical, key_id_of, public_of, sign


def publish_key(session: Session, *, at: datetime) -> str:
    """The id of the key that signs now, published with its first use."""
    public = public_of(keyring.attestation_seed())
    key_id = key_id_of(public)
    session.execute(
        insert(AttestationKey)
        .values(id=key_id, public=public, first_used_at=at)
        .on_conflict_do_nothing(index_elements=["id"])
    )
    return key_id


def attest_skills(session: Session, person_id: UUID, *, issuer: str, at: datetime) -> Attestation:
    """Sign what of a person's skills is verified now.

    Raises:
        NothingVerified.
    """
    attestation_id = new_id()
    key_id = publish_key(session, at=at)
    document = canonical(
        attestation(
            issuer=issuer,
            key_id=key_id,
            attestation_id=wire_id("ats", attestation_id),
            person_id=wire_id("per", person_id),
            name=session.get_one(Person, person_id).name,
            issued_at=at.isoformat(),
            skills=skills_of(session, person_id, at=at),
        )
    )
    made = Attestation(
        id=attestation_id,
        person_id=person_id,
        key_id=key_id,
        document=document,
        signature=sign(keyring.attestation_seed(), document),
        issued_at=at,
    )
    session.add(made)
    session.flush()
    return made
