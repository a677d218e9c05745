"""How the audit log grows: an entry for each access, and a link for each entry."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from market.audit.models import AuditEntry
from market.audit.rules import LONGEST_QUERY, Access, Asked
from market.db import new_id


def note_access(
    session: Session,
    asked: Asked,
    kind: Access,
    *,
    at: datetime,
    status: int | None = None,
    people: Iterable[UUID] = (),
) -> None:
    """Write one entry. Whoever asks is not among the people of it: one's own data is one's own."""
    principal = asked.principal
    session.execute(
        insert(AuditEntry),
        {
            "id": new_id(),
            "at": at,
            "kind": kind.value,
            "actor_id": principal.person_id,
            "part": principal.part.value,
            "organisation_id": principal.organisation_id,
            "key_id": principal.key_id,
            "method": asked.method,
            "route": asked.route,
            "path": asked.path[:LONGEST_QUERY],
            "query": asked.query[:LONGEST_QUERY],
            "request_id": asked.request_id,
            "status": status,
            "people": sorted({*people} - {principal.person_id}),
        },
    )


def chain_audit(session: Session, limit: int = 1000) -> int:
    """Append up to `limit` entries to the chain; how many it were.

    Commit soon after: the chain is locked until then, though nothing that writes waits for it.
    """
    linked: int = session.execute(
        text("select market.chain_audit(:limit)"), {"limit": limit}
    ).scalar_one()
    return linked
