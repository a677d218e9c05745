"""Reads about policies."""

from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from market.policies.models import PolicyDefault, PolicyVersion
from market.policies.rules import DEFAULT_NAME, PolicyNotFound


def policy(session: Session, policy_id: UUID) -> PolicyVersion:
    """One version of a policy.

    Raises:
        PolicyNotFound.
    """
    found = session.get(PolicyVersion, policy_id)
    if found is None:
        raise PolicyNotFound(policy_id)
    return found


def policies(name: str | None = None) -> Select[PolicyVersion]:
    """All versions of all policies, or of one, as a statement to page through."""
    statement = select(PolicyVersion)
    return statement if name is None else statement.where(PolicyVersion.name == name)


def default_policy(session: Session) -> PolicyDefault:
    """Which policy runs obey when they name none; the migrations put one there."""
    return session.get_one(PolicyDefault, DEFAULT_NAME)
