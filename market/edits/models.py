"""The table of edits."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id


class SubmissionEdit(Base, kw_only=True):
    """What became of the draft that a submission began from, each time it was handed in. Rows are
    only added.

    Units: as in `edits.rules.Edit`; a region is four numbers, from and to in the draft, from and to
        in what was handed in, both written alike. `draft_digest` is SHA-256 of the draft as given.
    """

    __tablename__ = "submission_edit"
    __table_args__ = (
        CheckConstraint("untouched_share between 0 and 1", name="untouched_share"),
        CheckConstraint("least(draft_words, text_words, distance) >= 0", name="words"),
        CheckConstraint("not is_flagged or distance = 0", name="is_flagged"),
        UniqueConstraint("submission_id", "round"),
        Index("ix_submission_edit_project_id", "project_id", "id"),
        Index("ix_submission_edit_expert_id", "expert_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    submission_id: Mapped[UUID] = mapped_column(ForeignKey("market.submission.id"))
    round: Mapped[int]
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("market.organisation.id"))
    project_id: Mapped[UUID] = mapped_column(ForeignKey("market.project.id"))
    expert_id: Mapped[UUID] = mapped_column(ForeignKey("market.person.id"))
    at: Mapped[datetime]
    draft_digest: Mapped[bytes] = mapped_column(LargeBinary)
    draft_words: Mapped[int]
    text_words: Mapped[int]
    distance: Mapped[int]
    untouched_share: Mapped[float] = mapped_column(Double)
    is_exact: Mapped[bool]
    is_flagged: Mapped[bool]
    regions: Mapped[list[list[int]]] = mapped_column(ARRAY(BigInteger, dimensions=2))
