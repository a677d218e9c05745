"""Reads of the audit log, and whether it is still what was written."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, select, text
from sqlalchemy.orm import Session

from market.audit.models import AuditEntry, AuditLink
from market.filters import narrowed

_BROKEN = text(
    """
    select 'link ' || number from (
        select number, digest, market.audit_digest(entry_id) as entry,
            lag(digest, 1, ''::bytea) over (order by number) as before,
            row_number() over (order by number) as place
        from market.audit_link
    ) link
    where number <> place or digest is distinct from sha256(before || entry)
    union all
    select 'left out ' || e.id from market.audit_entry e
    where e.at < (
        select max(l.at) - interval '1 day'
        from market.audit_link k join market.audit_entry l on l.id = k.entry_id)
      and not exists (select from market.audit_link k where k.entry_id = e.id)
    """
)


def audit_entries(
    *,
    person_id: UUID | None = None,
    actor_id: UUID | None = None,
    kind: str | None = None,
    route: str | None = None,
    request_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Select[AuditEntry]:
    """Entries that fit everything that is given, as a statement to page through."""
    statement = narrowed(
        select(AuditEntry),
        (AuditEntry.actor_id, actor_id),
        (AuditEntry.kind, kind),
        (AuditEntry.route, route),
        (AuditEntry.request_id, request_id),
    )
    if person_id is not None:
        statement = statement.where(AuditEntry.people.contains([person_id]))
    if since is not None:
        statement = statement.where(AuditEntry.at >= since)
    if until is not None:
        statement = statement.where(AuditEntry.at < until)
    return statement


def looks_at(person_id: UUID) -> Select[AuditEntry]:
    """Every time that somebody else was told of a person, or changed something about it."""
    return audit_entries(person_id=person_id).where(AuditEntry.actor_id != person_id)


def newest_link(session: Session) -> AuditLink | None:
    """The end of the chain."""
    return session.scalar(select(AuditLink).order_by(AuditLink.number.desc()).limit(1))


def broken_audit(session: Session) -> list[str]:
    """Where the log is not what was chained, a text each: there must be none."""
    return list(session.scalars(_BROKEN))
