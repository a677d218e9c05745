"""What is learned of verdicts: abilities, difficulties, and new versions of the stump model."""

import time
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy.orm import Session

from market.predictions.actions import learn_outcomes, tell_abilities
from market.quality.queries import outcome_of_offer, outcome_of_verdict, unlearned
from matching.attempts import Attempts

if TYPE_CHECKING:
    from matching.ability import StumpModel

CATCH_UP = 5_000
"""Outcomes that one transaction adds to the log at once."""

FIT_ANEW = 1.5
"""A record so many times as large as the version's own is tuned anew, and not only refitted."""


def observe_verdict(session: Session, submission_id: UUID, *, at: datetime) -> bool:
    """Write a verdict into the log of the stump model, once; whether it was not there yet."""
    outcome = outcome_of_verdict(session, submission_id)
    return outcome is not None and learn_outcomes(session, [outcome], at=at) > 0


def observe_offer(session: Session, offer_id: UUID, *, at: datetime) -> bool:
    """Write an offer that came to nothing into the log, once; whether it was not there yet."""
    outcome = outcome_of_offer(session, offer_id)
    return outcome is not None and learn_outcomes(session, [outcome], at=at) > 0


def tell_of_verdict(session: Session, submission_id: UUID, *, at: datetime) -> None:
    """Write what is believed, after a verdict, of its expert and its task."""
    outcome = outcome_of_verdict(session, submission_id)
    if outcome is not None:
        tell_abilities(session, outcome, at=at)


def catch_up(session: Session, *, at: datetime) -> int:
    """Write what was never learned into the log: what a lost job left, or an older record."""
    found = unlearned(session, limit=CATCH_UP)
    return learn_outcomes(session, found, at=at) if found else 0


def fitted(before: bytes, known_rows: int, rows: Attempts) -> tuple["StumpModel", float]:
    """A new version from the whole record, and the seconds that it took.

    The version before it lends what it tuned, unless the record has grown so much that it is to be
    tuned anew.
    """
    # Loads scipy, which only the job that fits needs.
    from matching.ability import StumpModel

    begun = time.perf_counter()
    model = StumpModel.from_bytes(before)
    if len(rows) > FIT_ANEW * known_rows:
        model.fit(rows)
    else:
        model.refit(rows)
    return model, time.perf_counter() - begun
