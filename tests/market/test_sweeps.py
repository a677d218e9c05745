"""What becomes of the rows behind one at which a sweep fails."""

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from market.db import new_id
from market.events import Event, EventRow, emit
from market.sweeps import one_by_one, sweep
from tests.factories import AT


def test_a_sweep_does_all_others_and_then_fails_by_the_first(db: Session) -> None:
    subjects = [new_id() for _ in range(4)]

    def tell(session: Session, row: int) -> None:
        emit(session, Event.QUALITY_ALERT, subjects[row], at=AT)
        if row in (1, 2):
            raise ValueError(f"row {row} cannot be done")

    with pytest.raises(ValueError, match="row 1 cannot be done") as failed:
        sweep(range(4), tell)
    assert failed.value.__notes__ == ["2 rows of a sweep failed; this is the first"]
    told = select(EventRow.subject_id).where(EventRow.subject_id.in_(subjects))
    # What failed has left nothing behind, and what came after it was done.
    assert set(db.scalars(told)) == {subjects[0], subjects[3]}


def test_a_sweep_whose_database_is_away_tries_nothing_else() -> None:
    nowhere = create_engine(
        "postgresql+psycopg://127.0.0.1:1/none", connect_args={"connect_timeout": 5}
    )
    tried: list[int] = []

    def connect(row: int) -> None:
        tried.append(row)
        nowhere.connect()

    with pytest.raises(OperationalError):
        one_by_one(range(3), connect)
    assert tried == [0]


def test_a_sweep_of_nothing_and_one_that_goes_well_say_nothing() -> None:
    done: list[int] = []
    one_by_one([], done.append)
    one_by_one([1, 2], done.append)
    assert done == [1, 2]
