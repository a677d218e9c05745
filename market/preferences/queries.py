"""Reads of accepted preferences. They run as the platform, for time is not a lab's to read."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Uuid, bindparam, text
from sqlalchemy.orm import Session

from market.preferences.rules import (
    MOST_PREFERENCES,
    Preference,
    Report,
    preference_of,
    report_on,
)

_ACCEPTED = text(
    """
    select s.expert_id, s.payload, (select coalesce(sum(w.paid_s + w.capped_s), 0)
        from market.work_session w where w.offer_id = s.offer_id)::int as recorded_s
    from market.submission s
    where s.project_id = :project_id and s.state in ('accepted', 'partially_accepted')
        and s.payload ->> 'responses' is not null
    order by s.id desc limit :most
    """
).bindparams(bindparam("project_id", type_=Uuid()))


@dataclass(frozen=True, slots=True)
class Read:
    """A project's report, and what it could not read or left unread."""

    report: Report
    unreadable: int
    is_cut: bool


def preference_report(
    session: Session, project_id: UUID, *, least_s: int, most: int = MOST_PREFERENCES
) -> Read:
    """What a project's accepted preferences come to, the latest of them where they are too many."""
    rows = session.execute(_ACCEPTED, {"project_id": project_id, "most": most + 1}).all()
    found: list[Preference] = []
    for row in rows[:most]:
        one = preference_of(row.payload, rater_id=row.expert_id, recorded_s=row.recorded_s)
        if one is not None:
            found.append(one)
    return Read(
        report=report_on(found, least_s=least_s),
        unreadable=min(len(rows), most) - len(found),
        is_cut=len(rows) > most,
    )
