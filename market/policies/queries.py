"""Reads about policies."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from market.policies.models import PolicyApproval, PolicyDefault, PolicyUse, PolicyVersion
from market.policies.rules import DEFAULT_NAME, PolicyNotFound, read_policy, why_large
from market.projects.queries import project


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


def default_policy(session: Session, *, lock: bool = False) -> PolicyDefault:
    """Which policy runs obey when they name none; locked, when another is about to be chosen. The
    migrations put one there.
    """
    return session.get_one(
        PolicyDefault, DEFAULT_NAME, with_for_update=lock or None, populate_existing=lock
    )


def newest_policy(session: Session, name: str) -> PolicyVersion | None:
    """The newest version of a policy; none, when it has none yet."""
    return session.scalar(policies(name).order_by(PolicyVersion.version_no.desc()).limit(1))


def approvals_of(session: Session, ids: Sequence[UUID]) -> dict[UUID, PolicyApproval]:
    """Who approved each of some policy versions; those that nobody did are left out."""
    rows = session.scalars(select(PolicyApproval).where(PolicyApproval.policy_id.in_(ids)))
    return {row.policy_id: row for row in rows}


def policy_approval(session: Session, policy_id: UUID) -> PolicyApproval | None:
    """Who approved a policy version, if anybody did."""
    return session.get(PolicyApproval, policy_id)


def policy_uses(project_id: UUID | None = None) -> Select[PolicyUse]:
    """What was in use for everything, or for one project, as a statement to page through."""
    return select(PolicyUse).where(
        PolicyUse.project_id.is_(None) if project_id is None else PolicyUse.project_id == project_id
    )


def obeyed_policy(session: Session, project_id: UUID | None = None) -> PolicyVersion:
    """What a run obeys that names no policy: the project's own, else the default.

    Raises:
        ProjectNotFound.
    """
    own = None if project_id is None else project(session, project_id).policy_id
    return policy(session, own or default_policy(session).policy_id)


def approval_wanted(
    session: Session, wanted: PolicyVersion, *, instead_of: PolicyVersion
) -> list[str]:
    """Why a second person has yet to approve a policy before it is put to use; nothing, when it may
    be. What came with the house was approved with it.
    """
    is_approved = policy_approval(session, wanted.id) is not None
    return why_approve(wanted, instead_of, is_approved=is_approved)


def why_approve(
    wanted: PolicyVersion, instead_of: PolicyVersion, *, is_approved: bool
) -> list[str]:
    """The same for whoever knows already whether it was approved."""
    if is_approved or wanted.id == instead_of.id or wanted.author_id is None:
        return []
    return why_large(read_policy(instead_of.document), read_policy(wanted.document))
