"""Tables of work sessions, heartbeats and time entries."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import TSTZRANGE, ExcludeConstraint, Range
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.work.rules import SESSION, TIME_ENTRY


class WorkSession(Base):
    """Time at work on one offer, from its start until it is stopped, handed in or lost.

    Only one heartbeat's worth of columns changes while it runs. The stretch that runs now stands
    here, from `stretch_at` until the last heartbeat; it becomes time entries when it closes.
    """

    __tablename__ = "work_session"
    __table_args__ = (
        CheckConstraint(f"state in {SESSION.states}", name="state"),
        CheckConstraint("quiet_s between 600 and 900", name="quiet_s"),
        CheckConstraint("paid_s >= 0 and capped_s >= 0 and cap_left_s >= 0", name="seconds"),
        CheckConstraint("paused_s >= 0", name="paused_s"),
        CheckConstraint("(state = 'running') = (stretch_at is not null)", name="stretch"),
        Index(
            "uq_work_session_open",
            "expert_id",
            unique=True,
            postgresql_where=text("state in ('running', 'idle', 'paused')"),
        ),
        Index("ix_work_session_offer_id", "offer_id"),
        Index("ix_work_session_project_id", "project_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    task_id: Mapped[UUID] = mapped_column(ForeignKey("market.task.id"))
    offer_id: Mapped[UUID] = mapped_column(ForeignKey("market.offer.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    started_at: Mapped[datetime]
    last_beat_at: Mapped[datetime]
    last_active_at: Mapped[datetime]
    cap_left_s: Mapped[int]
    """What the offer's cap still allowed when the running stretch began."""
    day_used_s: Mapped[int]
    """What the expert had been paid for, on that stretch's first day, when it began."""
    quiet_s: Mapped[int]
    week_cap_s: Mapped[int | None] = mapped_column(default=None)
    """The most that this contract pays for in one week; none, when its terms name none."""
    week_used_s: Mapped[int] = mapped_column(default=0)
    """What the contract had been paid for, in that stretch's first week, when it began."""
    overtime_after_s: Mapped[int | None] = mapped_column(default=None)
    """Beyond how much of a week this contract pays overtime; it never does, when it names none."""
    stretch_at: Mapped[datetime | None] = mapped_column(default=None)
    state: Mapped[str] = mapped_column(default="running")
    last_seq: Mapped[int] = mapped_column(default=0)
    paid_s: Mapped[int] = mapped_column(default=0)
    """Paid seconds of the stretches that have closed."""
    capped_s: Mapped[int] = mapped_column(default=0)
    """Seconds beyond a cap of the stretches that have closed."""
    paused_at: Mapped[datetime | None] = mapped_column(default=None)
    paused_s: Mapped[int] = mapped_column(default=0)
    """How far the pauses of this session have moved its offer's deadline."""
    warned_at: Mapped[datetime | None] = mapped_column(default=None)
    """When its expert was last asked whether it is still there."""
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)


class Heartbeat(Base):
    """A proof that someone was there, as it was accepted; never changed."""

    __tablename__ = "heartbeat"

    session_id: Mapped[UUID] = mapped_column(ForeignKey("market.work_session.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    is_active: Mapped[bool]


class TimeEntry(Base):
    """A stretch of time within one UTC day; its first `paid_s` seconds are paid.

    Heartbeats prove it, or a person granted it: then it says by which decision. `granted_s` is what
    a decision pays of the time beyond a cap. `overtime_s` are the last of the paid seconds, which
    came beyond what its contract pays plainly in a week; that was known when they were recorded.
    """

    __tablename__ = "time_entry"
    __table_args__ = (
        CheckConstraint(f"state in {TIME_ENTRY.states}", name="state"),
        CheckConstraint("seconds > 0 and capped_s between 0 and seconds", name="seconds"),
        CheckConstraint("granted_s between 0 and capped_s", name="granted_s"),
        CheckConstraint("overtime_s between 0 and seconds - capped_s", name="overtime_s"),
        CheckConstraint("(session_id is null) = (source = 'granted')", name="source"),
        CheckConstraint(
            "(decision_id is not null) = (source = 'granted' or granted_s > 0)", name="decision"
        ),
        CheckConstraint(
            "lower_inc(during) and not upper_inc(during)"
            " and extract(epoch from upper(during) - lower(during)) = seconds",
            name="during",
        ),
        ExcludeConstraint(
            ("expert_id", "="),
            ("during", "&&"),
            name="ex_time_entry_expert_id",
            using="gist",
            where=text("state <> 'voided'"),
        ),
        Index("ix_time_entry_offer_id", "offer_id"),
        Index("ix_time_entry_session_id", "session_id"),
        Index("ix_time_entry_locked", "offer_id", postgresql_where=text("state = 'locked'")),
        Index("ix_time_entry_unconfirmed", "id", postgresql_where=text("state = 'recorded'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    session_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.work_session.id"))
    offer_id: Mapped[UUID] = mapped_column(ForeignKey("market.offer.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    during: Mapped[Range[datetime]] = mapped_column(TSTZRANGE)
    seconds: Mapped[int]
    capped_s: Mapped[int]
    recorded_at: Mapped[datetime]
    source: Mapped[str] = mapped_column(default="heartbeats")
    granted_s: Mapped[int] = mapped_column(default=0)
    overtime_s: Mapped[int] = mapped_column(default=0)
    decision_id: Mapped[UUID | None] = mapped_column(default=None)
    """The dispute whose decision granted it, or some of it."""
    state: Mapped[str] = mapped_column(default="recorded")
    version: Mapped[int] = mapped_column(default=1)

    @property
    def paid_s(self) -> int:
        """How many of its seconds, the first ones, are paid."""
        return self.seconds - self.capped_s + self.granted_s
