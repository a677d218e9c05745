"""How what a run saw and answered is kept."""

from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.orm import Session

from market.explanations.models import RunSnapshot
from market.explanations.rules import Recorded, packed


def keep_snapshot(session: Session, run_id: UUID, recorded: Recorded) -> None:
    """Keep a run's problem and answer with the run, once."""
    session.execute(insert(RunSnapshot), {"run_id": run_id, "arrays": packed(recorded)})
