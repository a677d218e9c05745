"""How the experts of a file are taken in, all that can be together."""

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from market.availability.rules import AvailabilityInvalid, away_of, week_of
from market.db import new_id
from market.events import Event, emit
from market.expert_imports.rules import EXPERT_ROWS, ExpertRow
from market.experts.actions import profile_columns
from market.experts.models import Expert
from market.experts.rules import (
    ENTRY_TIER,
    Claim,
    Degree,
    DomainInvalid,
    Profile,
    ProfileInvalid,
    TooManyDomains,
    check_profile,
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
        weekly_hours, max_concurrent, degrees, licences, week, away, opens_at, state, source,
        version)
    select p.id, :at, said ->> 'headline', said ->> 'bio', said ->> 'country',
        said ->> 'timezone', array(select jsonb_array_elements_text(said -> 'languages')),
        (said ->> 'weekly_hours')::bigint, (said ->> 'max_concurrent')::bigint,
        said -> 'degrees', array(select jsonb_array_elements_text(said -> 'licences')),
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
            and e.degrees = said -> 'degrees'
            and to_jsonb(e.licences) = said -> 'licences'
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
        **profile_columns(checked, at),
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
            degrees=tuple(Degree(one.domain, one.degree, one.institution) for one in row.degrees),
            licences=row.licences,
            week=week_of(row.windows),
            away=away_of(row.time_off),
        )
        check_profile(profile)
    except (ProfileInvalid, AvailabilityInvalid) as wrong:
        return Fault("out_of_range", f"/{wrong.field}", str(wrong), name)
    except (DomainInvalid, TooManyDomains) as wrong:
        return Fault("domain_invalid", "/domains", str(wrong), name)
    return profile


def _multirange(spans: Sequence[tuple[object, object]]) -> str:
    """Stretches as PostgreSQL reads them."""
    return "{" + ",".join(f"[{start},{end})" for start, end in spans) + "}"
