"""How an expert's profile, pay tier and standing come about and change."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import Range, insert
from sqlalchemy.dialects.postgresql.ranges import MultiRange
from sqlalchemy.orm import Session

from market.availability.queries import calendar
from market.availability.rules import Calendar
from market.events import Event, emit
from market.experts.models import Expert, ExpertDomain, TierAssignment
from market.experts.queries import expert
from market.experts.rules import ENTRY_TIER, Claim, Profile, ProfileExists, check_profile


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
        .values(profile_columns(profile, at))
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
    for name, value in profile_columns(profile, at).items():
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


def open_hours(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Experts whose closed hours have become open ones, some at most; each is named once for an
    opening, and the next one is looked up.
    """
    opened = session.scalars(
        select(Expert)
        .where(Expert.opens_at <= at)
        .order_by(Expert.opens_at, Expert.id)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    for found in opened:
        found.opens_at = calendar(found.timezone, found.week, found.away).opens_after(at)
    session.flush()
    return [found.id for found in opened]


def profile_columns(profile: Profile, at: datetime) -> dict[str, object]:
    """The columns of an expert's row that its profile fills, by name."""
    return {
        "headline": profile.headline,
        "bio": profile.bio,
        "country": profile.country,
        "timezone": profile.timezone,
        "languages": list(profile.languages),
        "weekly_hours": profile.weekly_hours,
        "max_concurrent": profile.max_concurrent,
        "degrees": {
            one.domain: {"degree": one.degree}
            | ({"institution": one.institution} if one.institution else {})
            for one in profile.degrees
        },
        "licences": list(profile.licences),
        "week": MultiRange([Range(*span) for span in profile.week]),
        "away": MultiRange([Range(*span) for span in profile.away]),
        "opens_at": Calendar(profile.timezone, profile.week, profile.away).opens_after(at),
    }


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
