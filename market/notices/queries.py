"""Reads of what happened, for whom it concerns."""

from sqlalchemy import Select, select

from market.auth import Part, Principal
from market.events import EventRow


def happened(principal: Principal, kind: str | None = None) -> Select[EventRow]:
    """What concerns a principal: everything for ops, its organisation's for a lab, its own else.

    Row level security says the same once more.
    """
    statement = select(EventRow)
    if principal.part is Part.LAB:
        statement = statement.where(EventRow.organisation_id == principal.organisation_id)
    elif principal.part is not Part.OPS:
        statement = statement.where(EventRow.person_id == principal.person_id)
    return statement if kind is None else statement.where(EventRow.type == kind)
