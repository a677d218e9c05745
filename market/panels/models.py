"""Tables of panels and of what reviewers say of each model."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, ForeignKeyConstraint
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base


class PanelModel(Base):
    """A model that a project asks beside its target model; its lab adds and takes it away."""

    __tablename__ = "panel_model"
    __table_args__ = (
        ForeignKeyConstraint(
            ["project_id", "organisation_id"],
            ["market.project.id", "market.project.organisation_id"],
        ),
        ForeignKeyConstraint(
            ["target_model_id", "organisation_id"],
            ["market.target_model.id", "market.target_model.organisation_id"],
        ),
    )

    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    target_model_id: Mapped[UUID] = mapped_column(primary_key=True)
    organisation_id: Mapped[UUID]
    added_at: Mapped[datetime]


class PanelVote(Base):
    """Whether one model of a panel failed, by one review; rows are only ever added.

    The attempt is the model's own: that of the target model, or one beside it.
    """

    __tablename__ = "panel_vote"

    review_id: Mapped[UUID] = mapped_column(ForeignKey("market.review.id"), primary_key=True)
    attempt_id: Mapped[UUID] = mapped_column(ForeignKey("market.attempt.id"), primary_key=True)
    model_failed: Mapped[bool]
