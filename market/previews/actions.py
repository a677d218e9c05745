"""How a preview or a search is asked for, and how it ends."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from market.db import Json
from market.events import Event, emit
from market.operations import Operation, end_operation, is_cancelled, open_operation
from market.policies.queries import obeyed_policy, policy
from market.previews.models import PolicyPreview
from market.previews.queries import preview, recorded_runs
from market.previews.rules import StretchEmpty, StretchInvalid, checked_goal


def request_preview(
    session: Session,
    *,
    policy_id: UUID,
    since: datetime,
    until: datetime,
    project_id: UUID | None = None,
    requested_by: UUID | None = None,
    at: datetime,
) -> tuple[PolicyPreview, Operation]:
    """Ask what the runs of a stretch would have done under a policy; a job answers.

    Raises:
        PolicyNotFound, StretchInvalid, StretchEmpty.
    """
    found = policy(session, policy_id)
    _expect_runs(session, since, until, project_id)
    made = PolicyPreview(
        kind="preview",
        policy_id=found.id,
        since=since,
        until=until,
        requested_at=at,
        project_id=project_id,
        requested_by=requested_by,
    )
    return _asked(session, made, at=at)


def request_search(
    session: Session,
    *,
    policy_id: UUID | None,
    since: datetime,
    until: datetime,
    goal_fill: float,
    domain: str | None = None,
    knobs: Sequence[str] = (),
    evaluations: int = 60,
    project_id: UUID | None = None,
    requested_by: UUID | None = None,
    at: datetime,
) -> tuple[PolicyPreview, Operation]:
    """Ask for policies that fill at least a share of the seats, of all or of one domain, at the
    least loss of stumps; a job answers with choices. It begins from the policy obeyed today, unless
    one is named.

    Raises:
        PolicyNotFound, ProjectNotFound, StretchInvalid, StretchEmpty, GoalInvalid.
    """
    checked_goal(goal_fill, evaluations, knobs)
    start = obeyed_policy(session, project_id) if policy_id is None else policy(session, policy_id)
    _expect_runs(session, since, until, project_id)
    made = PolicyPreview(
        kind="search",
        policy_id=start.id,
        since=since,
        until=until,
        requested_at=at,
        project_id=project_id,
        requested_by=requested_by,
        asked={
            "goal_fill": goal_fill,
            "domain": domain,
            "knobs": list(knobs),
            "evaluations": evaluations,
        },
    )
    return _asked(session, made, at=at)


def end_preview(
    session: Session,
    preview_id: UUID,
    *,
    at: datetime,
    result: Json | None = None,
    problem: Json | None = None,
) -> None:
    """Keep what came of a preview, once; one that has ended stays as it ended, and nothing came of
    one that was cancelled.

    Raises:
        PreviewNotFound.
    """
    found = preview(session, preview_id)
    if found.ended_at is not None:
        return
    if is_cancelled(session, preview_id, lock=True):
        result = None
    found.result, found.ended_at = result, at
    short = None if result is None else {"sentence": result["sentence"]}
    end_operation(session, preview_id, at=at, result=short, problem=problem)


def _expect_runs(
    session: Session, since: datetime, until: datetime, project_id: UUID | None
) -> None:
    if since.tzinfo is None or until.tzinfo is None or until <= since:
        raise StretchInvalid()
    if not recorded_runs(session, since, until, project_id):
        raise StretchEmpty(since, until)


def _asked(
    session: Session, made: PolicyPreview, *, at: datetime
) -> tuple[PolicyPreview, Operation]:
    session.add(made)
    session.flush()
    followed = open_operation(session, "policy_preview", made.id, at=at, organisation_id=None)
    emit(session, Event.PREVIEW_REQUESTED, made.id, at=at, actor_id=made.requested_by)
    return made, followed
