"""How a policy comes to be, and becomes the default."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from market.events import Event, emit
from market.policies.models import PolicyApproval, PolicyDefault, PolicyUse, PolicyVersion
from market.policies.queries import (
    approval_wanted,
    default_policy,
    newest_policy,
    obeyed_policy,
    policy,
    policy_approval,
    policy_uses,
)
from market.policies.rules import (
    ApprovalByAuthor,
    ApprovalMissing,
    NothingToReturnTo,
    PolicyMoved,
    PolicyWorthless,
    ReasonBlank,
    checked_name,
    read_policy,
)
from market.projects.models import Project
from market.projects.queries import project

_ALONE = text("select pg_advisory_xact_lock(hashtextextended('policy ' || :name, 7))")


def publish_policy(
    session: Session,
    *,
    name: str,
    document: Mapping[str, object],
    reason: str,
    author_id: UUID | None,
    at: datetime,
    based_on: int | None = None,
) -> PolicyVersion:
    """Add a version to a policy, or the first one of a new policy; equal settings to the newest
    version's give that version back.

    Whoever says on which version their own is based is refused when there is a newer one; nought
    is a policy that is not there yet.

    Raises:
        PolicyNameInvalid, PolicyRefused, PolicyWorthless, PolicyMoved, ReasonBlank.
    """
    checked_name(name)
    settings = read_policy(document)
    if settings.matcher.is_worthless:
        raise PolicyWorthless()
    said = text_of(reason)
    # Version numbers of one name are given out one at a time.
    session.execute(_ALONE, {"name": name})
    newest = newest_policy(session, name)
    number = 0 if newest is None else newest.version_no
    if based_on is not None and based_on != number:
        raise PolicyMoved(name, number)
    digest = settings.digest()
    if newest is not None and newest.digest == digest:
        return newest
    version = PolicyVersion(
        name=name,
        version_no=number + 1,
        document=settings.to_dict(),
        digest=digest,
        reason=said,
        created_at=at,
        author_id=author_id,
    )
    session.add(version)
    session.flush()
    emit(session, Event.POLICY_PUBLISHED, version.id, at=at, actor_id=author_id)
    return version


def approve_policy(
    session: Session, policy_id: UUID, *, approver_id: UUID, note: str, at: datetime
) -> PolicyApproval:
    """Consent to a policy version that somebody else wrote; a second consent changes nothing.

    Raises:
        PolicyNotFound, ApprovalByAuthor, ReasonBlank.
    """
    found = policy(session, policy_id)
    said = text_of(note)
    if found.author_id == approver_id:
        raise ApprovalByAuthor()
    session.execute(_ALONE, {"name": found.name})
    given = policy_approval(session, policy_id)
    if given is None:
        given = PolicyApproval(policy_id=policy_id, approver_id=approver_id, note=said, at=at)
        session.add(given)
        session.flush()
        emit(session, Event.POLICY_APPROVED, policy_id, at=at, actor_id=approver_id)
    return given


def choose_default_policy(
    session: Session,
    policy_id: UUID,
    *,
    actor_id: UUID | None,
    at: datetime,
    reason: str = "",
    how: str = "chosen",
) -> PolicyDefault:
    """Make a policy version the one that runs obey when they name none.

    Raises:
        PolicyNotFound, ApprovalMissing.
    """
    chosen = policy(session, policy_id)
    row = default_policy(session, lock=True)
    if row.policy_id == chosen.id:
        return row
    before = policy(session, row.policy_id)
    if how == "chosen":
        _expect_approved(session, chosen, before)
    row.policy_id = chosen.id
    row.since = at
    row.version += 1
    _note_use(session, chosen.id, before.id, None, actor_id=actor_id, at=at, reason=reason, how=how)
    return row


def choose_project_policy(
    session: Session,
    project_id: UUID,
    policy_id: UUID | None,
    *,
    actor_id: UUID | None,
    at: datetime,
    reason: str = "",
    how: str = "chosen",
) -> Project:
    """Make a policy version the one that a project's own runs obey; none is the default again.

    Raises:
        ProjectNotFound, PolicyNotFound, ApprovalMissing.
    """
    row = project(session, project_id, lock=True)
    if row.policy_id == policy_id:
        return row
    if policy_id is not None and how == "chosen":
        _expect_approved(session, policy(session, policy_id), obeyed_policy(session, project_id))
    before, row.policy_id = row.policy_id, policy_id
    row.version += 1
    _note_use(
        session, policy_id, before, project_id, actor_id=actor_id, at=at, reason=reason, how=how
    )
    return row


def return_policy(
    session: Session, *, project_id: UUID | None = None, actor_id: UUID | None, at: datetime
) -> PolicyUse:
    """Put back what was in use before the last choice, in one step and without approval: it has
    been in use. A second return takes back the first.

    Raises:
        ProjectNotFound, NothingToReturnTo.
    """
    if project_id is None:
        default_policy(session, lock=True)
    else:
        project(session, project_id, lock=True)
    newest = policy_uses(project_id).order_by(PolicyUse.id.desc()).limit(1)
    last = session.scalar(newest)
    if last is None or (project_id is None and last.previous_id is None):
        raise NothingToReturnTo()
    reason = "Taken back."
    if project_id is not None:
        choose_project_policy(
            session,
            project_id,
            last.previous_id,
            actor_id=actor_id,
            at=at,
            reason=reason,
            how="returned",
        )
    elif last.previous_id is not None:
        choose_default_policy(
            session, last.previous_id, actor_id=actor_id, at=at, reason=reason, how="returned"
        )
    return session.scalars(newest).one()


def text_of(reason: str) -> str:
    """A reason without the space about it.

    Raises:
        ReasonBlank.
    """
    said = reason.strip()
    if not 1 <= len(said) <= 2000:
        raise ReasonBlank()
    return said


def _expect_approved(session: Session, wanted: PolicyVersion, instead_of: PolicyVersion) -> None:
    reasons = approval_wanted(session, wanted, instead_of=instead_of)
    if reasons:
        raise ApprovalMissing(wanted.id, reasons)


def _note_use(
    session: Session,
    policy_id: UUID | None,
    previous_id: UUID | None,
    project_id: UUID | None,
    *,
    actor_id: UUID | None,
    at: datetime,
    reason: str,
    how: str,
) -> None:
    used = PolicyUse(
        how=how,
        reason=reason.strip(),
        since=at,
        policy_id=policy_id,
        previous_id=previous_id,
        project_id=project_id,
        actor_id=actor_id,
    )
    session.add(used)
    session.flush()
    emit(
        session,
        Event.POLICY_CHOSEN,
        policy_id or default_policy(session).policy_id,
        at=at,
        actor_id=actor_id,
        data={"how": how, "project_id": None if project_id is None else str(project_id)},
    )
