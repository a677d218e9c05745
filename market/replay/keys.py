"""This process's own way into a started service, and keys for the people of ops."""

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import func, select

from market.auth import Part, keyring
from market.db import database
from market.people.actions import grant_part, make_key, sign_up
from market.people.models import Membership, Person
from market.people.rules import scopes_of
from market.settings import in_force, read_settings


def open_here(environment: Mapping[str, str]) -> None:
    """Open this process's own database and keyring on a started service."""
    settings = in_force.open(read_settings(environment))
    keyring.open(settings.secret_key)
    database.open(settings.database_url, pool_size=4)


def ops_key(email: str, *, name: str | None = None) -> str:
    """A new key for someone of ops, who is let in when nobody has this address yet."""
    at = datetime.now(UTC)
    with database.begin() as session:
        person_id = session.scalar(
            select(Person.id).where(func.lower(Person.email) == email.lower())
        )
        if person_id is None:
            return sign_up(session, part=Part.OPS, name=name or "Ops", email=email, at=at).secret
        membership: Membership = grant_part(
            session, person_id, Part.OPS, organisation_id=None, at=at
        )
        _, secret = make_key(
            session, membership, name="made by command", scopes=scopes_of(Part.OPS), days=90, at=at
        )
        return secret
