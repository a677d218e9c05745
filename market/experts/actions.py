"""How an expert's profile, pay tier and standing come about and change."""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import Range, insert
from sqlalchemy.dialects.postgresql.ranges import MultiRange
from sqlalchemy.orm import Session

from market.availability.queries import calendar
from market.availability.rules import AvailabilityInvalid, Calendar, away_of, week_of
from market.db import new_id
from market.events import Event, change_state, emit
from market.experts.models import Expert, ExpertDomain, Measure, TierAssignment
from market.experts.queries import announced_tier, expert
from market.experts.rules import (
    DEMOTION_NOTICE,
    ENTRY_TIER,
    EXPERT_ROWS,
    STANDING,
    STEPS,
    TIERS,
    Claim,
    DomainInvalid,
    EvidenceMissing,
    ExpertRow,
    MeasureUnfit,
    Profile,
    ProfileExists,
    ProfileInvalid,
    ReasonMissing,
    TierInForce,
    TierInPast,
    TooManyDomains,
    check_profile,
    checked_domains,
    demotion_starts,
    tenths,
)
from market.http import wire_id
from market.imports import (
    BulkImport,
    copied,
    copied_fault,
    copying,
    end_import,
    staging,
    start_import,
)
from market.people.rules import EMAIL
from market.states import StateConflict
from market.uploads import Fault, Upload, has_nul, read_rows

_STAGED = """
    line bigint, external_id text, code text, pointer text, detail text, id uuid,
    assignment_id uuid, email text, said jsonb, tier text
"""
_STAGED_COLUMNS = "line, external_id, code, pointer, detail, id, assignment_id, email, said, tier"

_TAKE = (
    # The first row of an address counts; the others are told of it.
    """
    update {staged} s set code = 'duplicate_in_file', pointer = '/email',
        detail = 'line ' || first.line || ' has this address too'
    from (
        select min(line) as line, lower(email) as email from {staged}
        where code is null group by 2 having count(*) > 1
    ) first
    where s.code is null and lower(s.email) = first.email and s.line > first.line
    """,
    """
    insert into market.person (id, name, email, created_at)
    select id, said ->> 'name', email, :at from {staged} where code is null order by line
    on conflict do nothing
    """,
    """
    insert into market.expert (id, created_at, headline, bio, country, timezone, languages,
        weekly_hours, max_concurrent, week, away, opens_at, state, source, version)
    select p.id, :at, said ->> 'headline', said ->> 'bio', said ->> 'country',
        said ->> 'timezone', array(select jsonb_array_elements_text(said -> 'languages')),
        (said ->> 'weekly_hours')::bigint, (said ->> 'max_concurrent')::bigint,
        (said ->> 'week')::int4multirange, (said ->> 'away')::tstzmultirange,
        (said ->> 'opens_at')::timestamptz, 'good', :source, 1
    from {staged} s join market.person p on lower(p.email) = lower(s.email)
    where s.code is null
    on conflict do nothing
    """,
    """
    insert into market.membership (id, person_id, part, created_at)
    select (left(e.id::text, 19) || substr(gen_random_uuid()::text, 20))::uuid, e.id, 'expert', :at
    from market.expert e where e.source = :source
    on conflict do nothing
    """,
    """
    insert into market.expert_domain (expert_id, domain, years, level)
    select e.id, claim.domain, round(claim.years, 1), 'claimed'
    from {staged} s
    join market.person p on lower(p.email) = lower(s.email)
    join market.expert e on e.id = p.id and e.source = :source
    cross join jsonb_to_recordset(s.said -> 'domains') claim (domain text, years numeric)
    where s.code is null
    """,
    """
    insert into market.tier_assignment (id, expert_id, tier, during, reason)
    select s.assignment_id, e.id, coalesce(s.tier, :entry), tstzrange(:at, null), 'first tier'
    from {staged} s
    join market.person p on lower(p.email) = lower(s.email)
    join market.expert e on e.id = p.id and e.source = :source
    where s.code is null
    """,
)

_JUDGE = """
    insert into market.import_row (import_id, line, verdict, external_id, code, pointer, detail)
    select :import, line,
        case when code is not null then 'rejected' when is_new then 'created'
            when is_same then 'unchanged' else 'conflict' end,
        external_id,
        case when code is not null then code
            when not is_new and not is_same then 'content_differs' end,
        case when code is not null then pointer
            when not is_new and not is_same then '/email' end,
        case when code is not null then detail
            when not is_new and not is_same
                then 'an expert with this address and other content is there already' end
    from (
        select s.*, e.source = :source as is_new,
            p.name = said ->> 'name' and e.headline = said ->> 'headline'
            and e.bio = said ->> 'bio' and e.country is not distinct from said ->> 'country'
            and e.timezone = said ->> 'timezone'
            and to_jsonb(e.languages) = said -> 'languages'
            and e.weekly_hours = (said ->> 'weekly_hours')::bigint
            and e.max_concurrent = (said ->> 'max_concurrent')::bigint
            and e.week = (said ->> 'week')::int4multirange
            and e.away = (said ->> 'away')::tstzmultirange
            and not exists (
                select from (
                    select domain, years from market.expert_domain
                    where expert_id = e.id and level = 'claimed'
                ) kept
                full join (
                    select claim.domain, round(claim.years, 1) as years
                    from jsonb_to_recordset(said -> 'domains') claim (domain text, years numeric)
                    where not exists (
                        select from market.expert_domain q
                        where q.expert_id = e.id and q.domain = claim.domain
                            and q.level = 'qualified'
                    )
                ) told using (domain, years)
                where kept.domain is null or told.domain is null
            )
            and (s.tier is null or exists (
                select from market.tier_assignment a
                where a.expert_id = e.id and a.tier = s.tier and a.during @> :at
            )) as is_same
        from {staged} s
        left join market.person p on lower(p.email) = lower(s.email)
        left join market.expert e on e.id = p.id
    ) judged
"""


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
        .values(_columns(profile, at))
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
    for name, value in _columns(profile, at).items():
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


def change_standing(
    session: Session,
    expert_id: UUID,
    action: str,
    *,
    at: datetime,
    reason_code: str | None,
    note: str | None,
    evidence: Sequence[str] = (),
    domains: Sequence[str] = (),
    until: datetime | None = None,
    reviews_all: bool = False,
    actor_id: UUID | None = None,
) -> Expert:
    """Take one step of an expert's standing; each step says why, and its expert reads it.

    Whoever is suspended or shut out is told on what evidence. A step with an end is lifted by it.
    With `reviews_all` all work of somebody watched is reviewed; that can be added to a watch or a
    limit in force, too.

    Raises:
        ExpertNotFound, ReasonMissing, EvidenceMissing, MeasureUnfit, DomainInvalid, StateConflict.
    """
    found = expert(session, expert_id, lock=True)
    # Closer review is no further step down for somebody who is watched or limited already.
    is_added = action == "watch" and reviews_all and found.state in ("watched", "limited")
    # What only a departure moves is no step that anybody can take.
    allowed = STANDING.allowed(found.state) & set(STEPS)
    if not is_added and action not in allowed:
        raise StateConflict(STANDING.name, found.state, action, allowed)
    if not (reason_code or "").strip() or not (note or "").strip():
        raise ReasonMissing(action)
    if action in ("suspend", "close") and not evidence:
        raise EvidenceMissing(action)
    if until is not None and (until <= at or action == "lift"):
        raise MeasureUnfit("until", "later than now, for a step that is not a lifting")
    if domains and action != "limit":
        raise MeasureUnfit("domains", "given with limit only")
    if reviews_all and action != "watch":
        raise MeasureUnfit("reviews_all", "given with watch only")
    if action == "lift":
        _end_measures(session, expert_id, str(reason_code), at=at, actor_id=actor_id)
    else:
        session.add(
            Measure(
                expert_id=expert_id,
                step=action,
                reason_code=str(reason_code),
                note=str(note),
                evidence=list(evidence),
                domains=checked_domains(domains),
                reviews_all=reviews_all,
                until=until,
                taken_at=at,
                taken_by=actor_id,
            )
        )
        session.flush()
    if is_added:
        emit(
            session,
            Event.STANDING_CHANGED,
            expert_id,
            at=at,
            person_id=expert_id,
            actor_id=actor_id,
            data={"step": action, "reason_code": reason_code},
        )
        return found
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


def lift_measure(
    session: Session,
    measure_id: UUID,
    *,
    reason_code: str,
    at: datetime,
    actor_id: UUID | None = None,
) -> bool:
    """Lift a step that is in force: its time is over, or an appeal was won; whether it was.

    The steps before it, which it was built on, end with it.
    """
    measure = session.get_one(Measure, measure_id)
    found = expert(session, measure.expert_id, lock=True)
    session.refresh(measure, with_for_update=True)
    if measure.ended_at is not None:
        return False
    _end_measures(session, found.id, reason_code, at=at, actor_id=actor_id)
    if "lift" in STANDING.allowed(found.state):
        change_state(
            session,
            STANDING,
            found,
            "lift",
            at=at,
            event=Event.STANDING_CHANGED,
            person_id=found.id,
            actor_id=actor_id,
            reason_code=reason_code,
        )
    return True


def _end_measures(
    session: Session, expert_id: UUID, reason_code: str, *, at: datetime, actor_id: UUID | None
) -> None:
    session.execute(
        update(Measure)
        .where(Measure.expert_id == expert_id, Measure.ended_at.is_(None))
        .values(ended_at=at, ended_by=actor_id, end_reason=reason_code)
    )


def import_experts(session: Session, upload: Upload, *, now: Callable[[], datetime]) -> BulkImport:
    """Take in the experts of a file: each row that can be is a person, an expert and a pay tier.

    An address decides who is who: an expert who is there with the same content is left alone, and
    with other content the row is refused. A person without a profile gets one, and keeps its name.

    Raises:
        ImportRunning, EncodingRefused, HeaderRefused, FileUnreadable.
    """
    at = now()
    started = start_import(session, "experts", upload, at=at, organisation_id=None, project_id=None)
    values = {
        "import": started.id,
        "source": wire_id("imp", started.id),
        "at": at,
        "entry": ENTRY_TIER,
    }
    with staging(session, started.id, _STAGED) as staged:
        rows = 0
        with copying(session, staged, _STAGED_COLUMNS) as copy:
            for batch in read_rows(upload, EXPERT_ROWS):
                rows += len(batch)
                copy.write("".join(_copied_row(line, row, at) for line, row in batch).encode())
        for statement in _TAKE:
            session.execute(text(statement.format(staged=staged)), values)
        session.execute(text(_JUDGE.format(staged=staged)), values)
        created = session.scalar(
            select(func.count()).select_from(Expert).where(Expert.source == values["source"])
        )
    ended = now()
    end_import(session, started, rows=rows, created=created or 0, at=ended)
    emit(
        session,
        Event.EXPERTS_IMPORTED,
        started.id,
        at=ended,
        data={"rows": rows, "created": created},
    )
    return started


def _copied_row(line: int, row: ExpertRow | Fault, at: datetime) -> str:
    if isinstance(row, Fault):
        return _copied_fault(line, row)
    checked = _read_row(row)
    if isinstance(checked, Fault):
        return _copied_fault(line, checked)
    said = {
        **_columns(checked, at),
        "name": row.name.strip(),
        "domains": row.domains,
        "week": _multirange(checked.week),
        "away": _multirange(checked.away),
    }
    cells = (
        str(line),
        copied(row.external_id or row.email),
        "\\N\t\\N\t\\N",
        str(new_id()),
        str(new_id()),
        copied(row.email),
        copied(msgspec.json.encode(said).decode()),
        copied(row.tier),
    )
    return "\t".join(cells) + "\n"


def _copied_fault(line: int, fault: Fault) -> str:
    return f"{copied_fault(line, fault)}\t\\N\t\\N\t\\N\t\\N\t\\N\n"


def _read_row(row: ExpertRow) -> Profile | Fault:
    name = row.external_id or row.email
    if has_nul(msgspec.to_builtins(row)):
        return Fault("nul_character", "", "it holds a NUL character, which cannot be kept", name)
    if not EMAIL.fullmatch(row.email):
        return Fault("email_invalid", "/email", "it is no e-mail address", name)
    if not row.name.strip():
        return Fault("blank", "/name", "it has no character but blanks", name)
    try:
        profile = Profile(
            headline=row.headline,
            bio=row.bio,
            country=row.country,
            timezone=row.timezone,
            languages=row.languages,
            weekly_hours=row.weekly_hours,
            max_concurrent=row.max_concurrent,
            claims=tuple(Claim(one.domain, tenths(one.years)) for one in row.domains),
            week=week_of(row.windows),
            away=away_of(row.time_off),
        )
        check_profile(profile)
    except (ProfileInvalid, AvailabilityInvalid) as wrong:
        return Fault("out_of_range", f"/{wrong.field}", str(wrong), name)
    except (DomainInvalid, TooManyDomains) as wrong:
        return Fault("domain_invalid", "/domains", str(wrong), name)
    return profile


def _columns(profile: Profile, at: datetime) -> dict[str, object]:
    return {
        "headline": profile.headline,
        "bio": profile.bio,
        "country": profile.country,
        "timezone": profile.timezone,
        "languages": list(profile.languages),
        "weekly_hours": profile.weekly_hours,
        "max_concurrent": profile.max_concurrent,
        "week": MultiRange([Range(*span) for span in profile.week]),
        "away": MultiRange([Range(*span) for span in profile.away]),
        "opens_at": Calendar(profile.timezone, profile.week, profile.away).opens_after(at),
    }


def _multirange(spans: Sequence[tuple[object, object]]) -> str:
    """Stretches as PostgreSQL reads them."""
    return "{" + ",".join(f"[{start},{end})" for start, end in spans) + "}"


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
