"""How an expert steps from one pay tier to another: announced, put off, taken back."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.orm import Session

from market.events import Event, emit
from market.experts.models import Expert, TierAssignment
from market.experts.queries import expert
from market.experts.rules import TIERS, ReasonMissing
from market.pay_tiers.queries import announced_tier
from market.pay_tiers.rules import DEMOTION_NOTICE, TierInForce, TierInPast, demotion_starts


def assign_tier(
    session: Session,
    expert_id: UUID,
    tier: str,
    *,
    at: datetime,
    reason: str,
    actor_id: UUID | None = None,
) -> TierAssignment:
    """Put an expert on another pay tier; time worked before keeps its old rate.

    A higher tier counts from `at` on. A lower one is announced, and begins with a pay week a week
    from then at the earliest; what was accepted before never pays less. Until it begins it can be
    replaced, or taken back by assigning the tier that is in force.

    Raises:
        ExpertNotFound, ReasonMissing, TierInForce, TierInPast.
    """
    if not reason.strip():
        raise ReasonMissing("a pay tier")
    found = expert(session, expert_id, lock=True)
    present = session.scalar(
        select(TierAssignment)
        .where(TierAssignment.expert_id == expert_id, TierAssignment.during.contains(at))
        .with_for_update()
    )
    coming = announced_tier(session, expert_id, at)
    if present is None:
        if session.scalar(select(TierAssignment.id).where(TierAssignment.expert_id == expert_id)):
            raise TierInPast()
        return _begin_tier(session, found, tier, reason=reason, at=at, actor_id=actor_id)
    if coming is not None:
        if coming.tier == tier:
            raise TierInForce(tier)
        take_back_tier(session, coming, at=at, actor_id=actor_id)
        if present.tier == tier:
            return present
    elif present.during.upper is not None:
        raise TierInPast()
    if present.tier == tier:
        raise TierInForce(tier)
    if present.during.lower == at:
        # It was in force for no time at all, so that nothing was paid by it.
        session.delete(present)
        session.flush()
        return _begin_tier(session, found, tier, reason=reason, at=at, actor_id=actor_id)
    is_down = TIERS.index(tier) < TIERS.index(present.tier)
    starts_at = demotion_starts(at) if is_down else at
    present.during = Range(present.during.lower, starts_at)
    session.flush()
    return _begin_tier(
        session,
        found,
        tier,
        reason=reason,
        at=at,
        actor_id=actor_id,
        announced_for=starts_at if is_down else None,
    )


def _begin_tier(
    session: Session,
    found: Expert,
    tier: str,
    *,
    reason: str,
    at: datetime,
    actor_id: UUID | None,
    announced_for: datetime | None = None,
) -> TierAssignment:
    following = TierAssignment(
        expert_id=found.id,
        tier=tier,
        during=Range(announced_for or at, None),
        reason=reason,
        actor_id=actor_id,
        announced_at=None if announced_for is None else at,
    )
    session.add(following)
    found.version += 1
    session.flush()
    if announced_for is None:
        _tell_tier(session, found.id, tier, at=at, actor_id=actor_id)
        return following
    emit(
        session,
        Event.TIER_ANNOUNCED,
        following.id,
        at=at,
        person_id=found.id,
        actor_id=actor_id,
        data={"tier": tier, "starts_at": announced_for.isoformat(), "reason": reason},
    )
    return following


def take_back_tier(
    session: Session, coming: TierAssignment, *, at: datetime, actor_id: UUID | None = None
) -> None:
    """Take back a step down that has not begun: what is in force goes on."""
    before = _before(session, coming)
    # Kept, as it may have been appealed, but in force for no time.
    coming.during = Range(empty=True)
    session.flush()
    before.during = Range(before.during.lower, None)
    session.flush()
    emit(
        session,
        Event.TIER_TAKEN_BACK,
        coming.id,
        at=at,
        person_id=coming.expert_id,
        actor_id=actor_id,
        data={"tier": before.tier},
    )


def postpone_tier(session: Session, coming: TierAssignment, *, until: datetime) -> None:
    """Let a step down that has not begun wait, for an appeal against it to be decided first."""
    starts_at = demotion_starts(until - DEMOTION_NOTICE)
    if coming.during.lower is None or coming.during.lower >= starts_at:
        return
    before = _before(session, coming)
    coming.during = Range(starts_at, None)
    session.flush()
    before.during = Range(before.during.lower, starts_at)
    session.flush()


def undo_tier(
    session: Session, step: TierAssignment, *, at: datetime, actor_id: UUID | None
) -> None:
    """An appeal against a step down was won: it does not begin, or the tier before it counts again
    from now on. Another tier that was assigned since stays. The caller holds the expert locked.
    """
    if step.during.isempty:
        return
    if step.during.lower is not None and step.during.lower > at:
        take_back_tier(session, step, at=at, actor_id=actor_id)
    elif step.during.upper is None:
        before = _before(session, step)
        assign_tier(
            session,
            step.expert_id,
            before.tier,
            at=at,
            reason="an appeal against the step down was won",
            actor_id=actor_id,
        )


def _before(session: Session, step: TierAssignment) -> TierAssignment:
    """The assignment that ends where another begins, locked."""
    return session.scalars(
        select(TierAssignment)
        .where(
            TierAssignment.expert_id == step.expert_id,
            func.upper(TierAssignment.during) == step.during.lower,
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()


def _tell_tier(
    session: Session, expert_id: UUID, tier: str, *, at: datetime, actor_id: UUID | None
) -> None:
    emit(
        session,
        Event.EXPERT_CHANGED,
        expert_id,
        at=at,
        person_id=expert_id,
        actor_id=actor_id,
        data={"tier": tier},
    )
