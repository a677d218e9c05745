"""How an expert's profile, pay tier and standing come about and change."""

from dataclasses import asdict
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import Range, insert
from sqlalchemy.orm import Session

from market.events import Event, change_state, emit
from market.experts.models import Expert, ExpertDomain, TierAssignment
from market.experts.queries import expert
from market.experts.rules import (
    ENTRY_TIER,
    STANDING,
    Claim,
    Profile,
    ProfileExists,
    ReasonMissing,
    TierInForce,
    TierInPast,
    check_profile,
)


def create_profile(
    session: Session,
    person_id: UUID,
    profile: Profile,
    *,
    at: datetime,
    tier: str = ENTRY_TIER,
    source: str = "signup",
) -> Expert:
    """Make a person an expert, on a pay tier from this moment on.

    Raises:
        ProfileExists, ProfileInvalid, DomainInvalid, TooManyDomains.
    """
    check_profile(profile)
    # One statement decides, so that two requests at once cannot both make the profile.
    made = session.execute(
        insert(Expert)
        .values(id=person_id, created_at=at, source=source, state="good", version=1)
        .values(_columns(profile))
        .on_conflict_do_nothing()
        .returning(Expert.id)
    ).first()
    if made is None:
        raise ProfileExists()
    _claim(session, person_id, profile.claims)
    session.add(
        TierAssignment(expert_id=person_id, tier=tier, during=Range(at, None), reason="first tier")
    )
    emit(session, Event.EXPERT_CHANGED, person_id, at=at, person_id=person_id, actor_id=person_id)
    session.flush()
    return expert(session, person_id)


def change_profile(session: Session, expert_id: UUID, profile: Profile, *, at: datetime) -> Expert:
    """Replace what an expert says about itself; domains shown by a test stay as they are.

    Raises:
        ExpertNotFound, ProfileInvalid, DomainInvalid, TooManyDomains.
    """
    check_profile(profile)
    found = expert(session, expert_id, lock=True)
    for name, value in _columns(profile).items():
        setattr(found, name, value)
    session.execute(
        delete(ExpertDomain).where(
            ExpertDomain.expert_id == expert_id, ExpertDomain.level == "claimed"
        )
    )
    _claim(session, expert_id, profile.claims)
    found.version += 1
    session.flush()
    emit(session, Event.EXPERT_CHANGED, expert_id, at=at, person_id=expert_id, actor_id=expert_id)
    return found


def assign_tier(
    session: Session,
    expert_id: UUID,
    tier: str,
    *,
    at: datetime,
    reason: str,
    actor_id: UUID | None = None,
) -> TierAssignment:
    """Put an expert on another pay tier from `at` on; time worked before keeps its old rate.

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
    if present is None:
        if session.scalar(select(TierAssignment.id).where(TierAssignment.expert_id == expert_id)):
            raise TierInPast()
    elif present.during.upper is not None:
        raise TierInPast()
    elif present.tier == tier:
        raise TierInForce(tier)
    elif present.during.lower == at:
        # It was in force for no time at all, so that nothing was paid by it.
        session.delete(present)
    else:
        present.during = Range(present.during.lower, at)
    session.flush()
    following = TierAssignment(
        expert_id=expert_id, tier=tier, during=Range(at, None), reason=reason, actor_id=actor_id
    )
    session.add(following)
    found.version += 1
    session.flush()
    emit(
        session,
        Event.EXPERT_CHANGED,
        expert_id,
        at=at,
        person_id=expert_id,
        actor_id=actor_id,
        data={"tier": tier},
    )
    return following


def change_standing(
    session: Session,
    expert_id: UUID,
    action: str,
    *,
    at: datetime,
    reason_code: str | None,
    note: str | None,
    actor_id: UUID | None = None,
) -> Expert:
    """Take one step of an expert's standing; each step says on what evidence.

    Raises:
        ExpertNotFound, ReasonMissing, StateConflict.
    """
    found = expert(session, expert_id, lock=True)
    STANDING.target(found.state, action)
    if not (reason_code or "").strip() or not (note or "").strip():
        raise ReasonMissing(action)
    change_state(
        session,
        STANDING,
        found,
        action,
        at=at,
        event=Event.STANDING_CHANGED,
        person_id=expert_id,
        actor_id=actor_id,
        reason_code=reason_code,
        note=note,
    )
    return found


def _columns(profile: Profile) -> dict[str, object]:
    columns = asdict(profile)
    del columns["claims"]
    return {**columns, "languages": list(profile.languages)}


def _claim(session: Session, expert_id: UUID, claims: tuple[Claim, ...]) -> None:
    if claims:
        session.execute(
            insert(ExpertDomain).on_conflict_do_nothing(),
            [
                {
                    "expert_id": expert_id,
                    "domain": claim.domain,
                    "years": claim.years,
                    "level": "claimed",
                    "ability": None,
                }
                for claim in claims
            ],
        )
