"""A lease in the database: of several processes one is the writer, and another takes over when it
falls silent.

The fence rises with every new holder. A holder writes in transactions that lock the row under its
own fence, so that whoever was taken over from, and does not know it yet, writes nothing.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Mapped, Session, mapped_column

from market.db import Base

# By the clock of the database, which all processes share.
_TAKE = text(
    """
    update market.lease set
        fence = fence + case when holder_id = :holder and held_until > clock_timestamp()
            then 0 else 1 end,
        holder_id = :holder, held_until = clock_timestamp() + make_interval(secs => :lease_s)
    where name = :name and (holder_id is null or holder_id = :holder
        or held_until <= clock_timestamp())
    returning fence
    """
)

_HOLD = text(
    """
    update market.lease
    set held_until = clock_timestamp() + make_interval(secs => :lease_s)
    where name = :name and holder_id = :holder and fence = :fence
    returning fence
    """
)

_LET_GO = text(
    "update market.lease set holder_id = null where name = :name and holder_id = :holder"
    " and fence = :fence"
)


class LeaseTaken(RuntimeError):
    """A process that wants to write what another is the writer of by now."""

    def __init__(self, name: str) -> None:
        super().__init__(f"another process holds the lease {name}")
        self.name = name


class Lease(Base):
    """Who is the writer of something, and until when it is waited for."""

    __tablename__ = "lease"

    name: Mapped[str] = mapped_column(primary_key=True)
    fence: Mapped[int]
    holder_id: Mapped[UUID | None] = mapped_column(default=None)
    held_until: Mapped[datetime | None] = mapped_column(default=None)


def take_lease(session: Session, name: str, holder_id: UUID, *, lease_s: float) -> int | None:
    """Become the writer, or stay it: the fence to write under; none, while another is the writer.

    A holder that let its lease run out gets a new fence, and has to read everything anew.
    """
    found: int | None = session.scalar(
        _TAKE, {"name": name, "holder": holder_id, "lease_s": lease_s}
    )
    return found


def hold_lease(session: Session, name: str, holder_id: UUID, fence: int, *, lease_s: float) -> None:
    """Make sure that what this transaction writes is written by the holder; until it ends nobody
    takes over.

    Raises:
        LeaseTaken.
    """
    values = {"name": name, "holder": holder_id, "fence": fence, "lease_s": lease_s}
    if session.scalar(_HOLD, values) is None:
        raise LeaseTaken(name)


def let_lease_go(session: Session, name: str, holder_id: UUID, fence: int) -> None:
    """End as the holder, so that another need not wait."""
    session.execute(_LET_GO, {"name": name, "holder": holder_id, "fence": fence})
