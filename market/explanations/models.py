"""The table of what runs saw and answered."""

from uuid import UUID

from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base


class RunSnapshot(Base):
    """What a finished run saw and what it answered, as compressed arrays: enough to explain any
    pair afterwards, chosen or not, and to run again to the same answer.
    """

    __tablename__ = "run_snapshot"

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    arrays: Mapped[bytes] = mapped_column(LargeBinary)
