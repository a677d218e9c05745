"""Tables of releases and of the tasks that calibrate them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, LargeBinary, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id
from market.releases.rules import FEWEST, MOST, RELEASE


class ModelRelease(Base):
    """A new version of a target model, and what is believed of its ability.

    Units: means and deviations of ability in logits, after calibration null before it; `prior` the
        probabilities of `matching.release.ABILITY`, little-endian doubles; `size` tasks.
    """

    __tablename__ = "model_release"
    __table_args__ = (
        CheckConstraint(f"state in {RELEASE.states}", name="state"),
        CheckConstraint(f"size between {FEWEST} and {MOST}", name="size"),
        CheckConstraint("target_model_id <> earlier_model_id", name="earlier"),
        Index("ix_model_release_organisation_id", "organisation_id", "id"),
        Index("ix_model_release_earlier_model_id", "earlier_model_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    target_model_id: Mapped[UUID] = mapped_column(ForeignKey("market.target_model.id"), unique=True)
    earlier_model_id: Mapped[UUID] = mapped_column(ForeignKey("market.target_model.id"))
    told_at: Mapped[datetime]
    size: Mapped[int] = mapped_column(SmallInteger)
    prior: Mapped[bytes] = mapped_column(LargeBinary)
    prior_mean: Mapped[float] = mapped_column(Double)
    prior_sd: Mapped[float] = mapped_column(Double)
    told_by: Mapped[UUID | None] = mapped_column(default=None)
    mean: Mapped[float | None] = mapped_column(Double, default=None)
    sd: Mapped[float | None] = mapped_column(Double, default=None)
    state: Mapped[str] = mapped_column(default="told")
    version: Mapped[int] = mapped_column(default=1)


class CalibrationTask(Base):
    """A task that was chosen to be put to a new model, and what was known of it then.

    Units: `base`, `base_sd` logits that somebody typical leads a model of ability nought astray
        with it; `level` steps of complexity from nought.
    """

    __tablename__ = "calibration_task"
    __table_args__ = (Index("ix_calibration_task_task_id", "task_id"),)

    release_id: Mapped[UUID] = mapped_column(
        ForeignKey("market.model_release.id"), primary_key=True
    )
    task_id: Mapped[UUID] = mapped_column(ForeignKey("market.task.id"), primary_key=True)
    organisation_id: Mapped[UUID]
    domain: Mapped[str]
    level: Mapped[int] = mapped_column(SmallInteger)
    base: Mapped[float] = mapped_column(Double)
    base_sd: Mapped[float] = mapped_column(Double)
