"""Reads of how long work took beside how long it is paid for."""

from sqlalchemy import text
from sqlalchemy.orm import Session

from market.caps.rules import CapUse
from market.projects.models import Project
from market.verdicts.rules import wilson

_USE = text(
    """
    with done as (
        select o.expert_id, (o.terms ->> 'cap_s')::bigint as cap_s,
            sum(e.seconds) as seconds
        from market.time_entry e join market.offer o on o.id = e.offer_id
        where e.project_id = :project_id and e.state <> 'voided'
            and o.state in ('completed', 'released', 'abandoned')
        group by o.id
    )
    select count(*) as works,
        count(*) filter (where seconds >= cap_s) as reached,
        count(distinct expert_id) as experts,
        count(distinct expert_id) filter (where seconds >= cap_s) as experts_reached,
        ceil(percentile_disc(0.9) within group (order by seconds))::bigint as long_s
    from done
    """
)


def cap_use(session: Session, project: Project) -> CapUse:
    """How the finished work of a project lies to its cap; each work to the cap that it was done
    under, and all its recorded time counted.

    Read as the platform: a lab may know how long its work takes, and not whose took how long.
    """
    row = session.execute(_USE, {"project_id": project.id}).one()
    return CapUse(
        cap_s=project.cap_s,
        reached=wilson(row.reached, row.works),
        experts=row.experts,
        experts_reached=row.experts_reached,
        long_s=row.long_s,
    )
