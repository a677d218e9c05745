"""How a bonus is given: from the project's budget, at once, and once for its reference."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from market.bonuses.models import Bonus
from market.bonuses.queries import DISSENT, bonus_by_reference, dissents, has_worked
from market.bonuses.rules import (
    MAX_MINOR,
    MIN_DISSENT,
    MIN_REASON,
    Ahead,
    Verdict,
    Wanted,
)
from market.db import new_id
from market.earnings.actions import keep_from_recording, lock_pay
from market.earnings.models import Earning
from market.earnings.rules import week_of
from market.events import Event, emit
from market.projects.models import Project
from market.review_plans.queries import plan_over
from market.reviews.models import Review
from market.submissions.queries import submission
from payouts import chart, ledger
from payouts.errors import FloorBreached
from payouts.pay import fee_minor


def give_bonus(
    session: Session,
    project: Project,
    wanted: Wanted,
    *,
    by: UUID,
    at: datetime,
    ahead: Ahead | None = None,
    is_for_vote: bool = False,
) -> Verdict:
    """Give one bonus, or say what stands against it; the same reference gives it once.

    It goes to an expert who took work of the project, or, `is_for_vote`, to a reviewer of whose
    vote the caller knows.

    With `ahead` nothing is given: the row is judged as if the rows before it had been, and is added
    to them when it would be.

    It is free to pay out at once: a lab does not review its own gift. The caller runs it as the
    platform, a transaction for each, and has checked that the project is the lab's.
    """
    fee = fee_minor(max(0, wanted.amount_minor), project.fee_basis_points)

    def refused(code: str, detail: str) -> Verdict:
        return Verdict("refused", wanted.amount_minor, fee, code, detail)

    if not 0 < wanted.amount_minor <= MAX_MINOR:
        return refused("amount_invalid", f"amount_minor must be 1 to {MAX_MINOR}")
    if not wanted.reference.strip():
        return refused("reference_blank", "give a reference of your own, so that it pays once")
    if len(wanted.reason.strip()) < MIN_REASON:
        return refused("reason_blank", f"say why in {MIN_REASON} characters or more")
    if not is_for_vote and not has_worked(session, project.id, wanted.expert_id):
        return refused("not_on_project", "this expert has taken no work of the project")
    keep_from_recording(session)
    lock_pay(session, wanted.expert_id)
    said = (wanted.expert_id, wanted.amount_minor)
    kept = bonus_by_reference(session, project.id, wanted.reference)
    before = None if kept is None else (kept.expert_id, kept.amount_minor)
    if ahead is not None:
        before = before or ahead.given.get(wanted.reference)
    if before is not None:
        if before == said:
            return Verdict("unchanged", wanted.amount_minor, fee)
        return refused("reference_used", "this reference gave another bonus before")
    budget = chart.project_budget(project.id, project.organisation_id, project.currency)
    free = ledger.balance(session, budget).available_minor
    if ahead is not None:
        free -= ahead.spent_minor
    short = f"the project has {free} free in minor units, and {wanted.amount_minor + fee} is needed"
    if free < wanted.amount_minor + fee:
        return refused("funds_short", short)
    if ahead is not None:
        ahead.spent_minor += wanted.amount_minor + fee
        ahead.given[wanted.reference] = said
        return Verdict("would_give", wanted.amount_minor, fee)
    bonus_id = new_id()
    key = f"bonus:{bonus_id}"
    lines = [
        ledger.Line(budget, chart.owed_to(wanted.expert_id, project.currency), wanted.amount_minor)
    ]
    if fee:
        lines.append(ledger.Line(budget, chart.platform_fee(project.currency), fee))
    try:
        ledger.post_entry(session, key=key, kind="bonus", lines=lines, at=at, memo=wanted.reference)
    except FloorBreached:
        # Somebody else took what was free since it was read.
        return refused("funds_short", short)
    session.add(
        Bonus(
            id=bonus_id,
            organisation_id=project.organisation_id,
            project_id=project.id,
            expert_id=wanted.expert_id,
            amount_minor=wanted.amount_minor,
            fee_minor=fee,
            currency=project.currency,
            reference=wanted.reference,
            reason=wanted.reason.strip(),
            is_for_impact=wanted.is_for_impact,
            given_by=by,
            given_at=at,
        )
    )
    line = Earning(
        organisation_id=project.organisation_id,
        project_id=project.id,
        expert_id=wanted.expert_id,
        offer_id=None,
        week=week_of(at),
        kind="impact_bonus" if wanted.is_for_impact else "bonus",
        seconds=0,
        rate_minor_per_hour=0,
        pay_minor=wanted.amount_minor,
        fee_minor=fee,
        currency=project.currency,
        entry_key=key,
        at=at,
        state="approved",
        approved_at=at,
        source_id=bonus_id,
        note=wanted.reason.strip(),
    )
    session.add(line)
    session.flush()
    emit(
        session,
        Event.EARNING_APPROVED,
        line.id,
        at=at,
        organisation_id=project.organisation_id,
        person_id=wanted.expert_id,
        actor_id=by,
        data={"kind": line.kind, "amount_minor": line.pay_minor, "currency": line.currency},
    )
    return Verdict("given", wanted.amount_minor, fee, earning_id=line.id)


def reward_dissent(
    session: Session, project: Project, review_id: UUID, *, reason: str, by: UUID, at: datetime
) -> Verdict:
    """Reward a vote that was not as was decided for its reason, once, by what its plan promised.

    The caller runs it as the platform, and has checked that the project is the lab's.
    """
    found = session.execute(dissents(project.id).where(Review.id == review_id)).one_or_none()
    if found is None or found[0].reviewer_id is None:
        why = (
            "a reward goes to a vote on a question of judgement that is not as was decided, and"
            f" says why in {MIN_DISSENT} characters or more; see the project's dissents"
        )
        return Verdict("refused", 0, 0, "no_dissent", why)
    vote: Review = found[0]
    promised = plan_over(session, submission(session, vote.submission_id)).dissent_minor
    if promised is None:
        why = "the review plan under which this vote was cast has no dissent_minor"
        return Verdict("refused", 0, 0, "nothing_promised", why)
    wanted = Wanted(found[0].reviewer_id, promised, f"{DISSENT}{review_id}", reason)
    return give_bonus(session, project, wanted, by=by, at=at, is_for_vote=True)
