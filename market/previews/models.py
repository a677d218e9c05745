"""The table of previews and of searches for a policy."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, Json, new_id


class PolicyPreview(Base):
    """A past stretch replayed under a policy, or searched from it for a better one.

    `asked` is the goal of a search; `result` is what came of it, null until it has ended.
    """

    __tablename__ = "policy_preview"
    __table_args__ = (
        CheckConstraint("kind in ('preview', 'search')", name="kind"),
        CheckConstraint("until > since", name="until"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    kind: Mapped[str]
    policy_id: Mapped[UUID] = mapped_column(ForeignKey("market.policy.id"))
    since: Mapped[datetime]
    until: Mapped[datetime]
    requested_at: Mapped[datetime]
    asked: Mapped[Json] = mapped_column(default_factory=dict)
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.project.id"), default=None)
    requested_by: Mapped[UUID | None] = mapped_column(default=None)
    result: Mapped[Json | None] = mapped_column(default=None)
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
