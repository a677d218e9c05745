"""Setting review plans, and drawing under them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from market.projects.queries import project
from market.review_plans.models import ReviewDraw, ReviewPlan
from market.review_plans.queries import author_record, newest_plan
from market.review_plans.rules import (
    FurtherLevel,
    Plan,
    Record,
    check_plan,
    choose,
    draw,
    unmet,
)
from market.standings.queries import is_reviewed_whole
from market.submissions.models import Submission

NOTHING = Record(0, 0, 0.0)


def set_plan(
    session: Session, project_id: UUID, plan: Plan, *, at: datetime, actor_id: UUID | None = None
) -> ReviewPlan:
    """Review a project's work by this plan from now on; what was opened before keeps its own.

    Raises:
        ProjectNotFound, PlanRefused.
    """
    check_plan(plan)
    # Locked, so that two versions at once follow each other.
    found = project(session, project_id, lock=True)
    version, _ = newest_plan(session, project_id)
    made = ReviewPlan(
        project_id=project_id,
        version=version + 1,
        organisation_id=found.organisation_id,
        document=msgspec.to_builtins(plan),
        at=at,
        actor_id=actor_id,
    )
    session.add(made)
    session.flush()
    return made


def draw_first(
    session: Session, handed: Submission, *, wanted: int, has_claim: bool, at: datetime
) -> tuple[Plan, int] | None:
    """Decide whether a submission is reviewed: its plan, and the votes to ask for, 0 for none.

    None when that was decided before. A claim, work that comes back from a rework, work of somebody
    under a step of standing that asks for it, and work that only people may accept is always
    reviewed; work that meets the checklist which may accept it is not, but for the control share.
    """
    version, plan = newest_plan(session, handed.project_id)
    is_owed = has_claim or handed.round > 1 or plan.authority in ("panel", "both")
    missed = unmet(plan.checks, handed.payload)
    is_owed = is_owed or bool(missed)
    is_met = plan.authority == "checklist" and not missed
    if not is_owed and (plan.rules or is_met):
        is_owed = is_reviewed_whole(session, handed.expert_id, at=at)
    record = NOTHING if is_owed or not plan.rules else author_record(session, handed.expert_id)
    chosen = choose(plan, record, submission_id=handed.id, round_=handed.round, version=version)
    rate = 0.0 if is_met else chosen.rate
    is_drawn = chosen.is_control if is_met else chosen.is_reviewed
    votes = wanted if is_drawn or is_owed else 0
    taken = _keep(
        session,
        handed,
        level=1,
        version=version,
        votes=votes,
        rate=1.0 if is_owed else rate,
        drawn=chosen.draw,
        at=at,
        rule=None if is_owed or is_met else chosen.rule,
        is_control=chosen.is_control,
        record=record,
        plan=plan,
        missed=missed,
    )
    return (plan, votes) if taken else None


def draw_further(
    session: Session, handed: Submission, level: FurtherLevel, *, version: int, at: datetime
) -> int:
    """Decide whether a submission goes to a further level; how many votes are asked for there."""
    drawn = draw(handed.id, handed.round, level.level, version, "review")
    votes = level.votes if drawn < level.rate else 0
    _keep(
        session,
        handed,
        level=level.level,
        version=version,
        votes=votes,
        rate=level.rate,
        drawn=drawn,
        at=at,
    )
    return votes


def _keep(
    session: Session,
    handed: Submission,
    *,
    level: int,
    version: int,
    votes: int,
    rate: float,
    drawn: float,
    at: datetime,
    rule: int | None = None,
    is_control: bool = False,
    record: Record = NOTHING,
    plan: Plan | None = None,
    missed: Sequence[str] = (),
) -> bool:
    kept = session.scalar(
        insert(ReviewDraw)
        .values(
            submission_id=handed.id,
            round=handed.round,
            level=level,
            organisation_id=handed.organisation_id,
            project_id=handed.project_id,
            plan_version=version,
            votes=votes,
            rate=rate,
            draw=drawn,
            is_control=is_control,
            at=at,
            rule=rule,
            decided=record.decided,
            accepted=record.accepted,
            low=record.low,
            authority=None if plan is None else plan.authority,
            unmet=list(missed),
        )
        .on_conflict_do_nothing()
        .returning(ReviewDraw.level)
    )
    return kept is not None
