"""How many trips to the database the hot paths take, and what becomes of a connection that died."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import delete, event, func, select, text, update
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from market.db import PLATFORM, Scope, current_scope, database, new_id
from market.events import Event, EventRow, StateChange, change_state
from market.experts.models import Expert
from market.offers.actions import accept_offer
from market.submissions.actions import submit_work
from market.tasks.models import Task, TaskSlot
from market.tasks.rules import SLOT
from market.work.actions import start_session
from tests.factories import make_expert, make_offer, make_project, make_task

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)


def trips(act: Callable[[Session], object]) -> int:
    """How many statements an action sends in a transaction of its own, its begin among them."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        sent.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        with database.begin() as session:
            act(session)
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    return len(sent)


def test_a_claim_a_start_and_a_hand_in_take_few_trips(committed: str) -> None:
    with database.begin() as session:
        expert = make_expert(session).id
        task = make_task(session, make_project(session), slots=1)
        offer = make_offer(session, task, expert, accepted=False, at=AT).id
    ends = AT + timedelta(minutes=1)
    assert trips(lambda session: accept_offer(session, offer, expert_id=expert, at=AT)) <= 3
    assert trips(lambda session: start_session(session, offer, expert_id=expert, at=AT)) <= 5
    assert (
        trips(
            lambda session: submit_work(session, offer, expert_id=expert, payload={"a": 1}, at=ends)
        )
        <= 9
    )
    with database.begin() as session:
        assert session.get_one(Task, task.id).state == "in_review"


def test_the_columns_of_a_result_are_told_to_whoever_looks(committed: str) -> None:
    del committed
    with database.engine.connect() as connection:
        cursor: Any = connection.connection.cursor()
        cursor.execute("select 1 as one, 'b'::text as two where false")
        told = cursor.description
        assert (len(told), [column.name for column in told]) == (2, ["one", "two"])
        assert [column[1] for column in told] == [23, 25]
        assert (told[-1].name, [column.name for column in told[:1]]) == ("two", ["one"])
        with pytest.raises(IndexError):
            told[2]
        cursor.execute("set local stumpwork.tenant = ''")
        assert cursor.description is None
        cursor.execute("select")
        assert cursor.description == []


def backend(scope: Scope = PLATFORM) -> tuple[int, str, str]:
    """Which process of the server's answers, as which role and for which tenant."""
    with database.begin(scope) as session:
        found = session.execute(
            text("select pg_backend_pid(), current_user, current_setting('stumpwork.tenant')")
        ).one()
        return int(found[0]), str(found[1]), str(found[2])


def end(url: str, pid: int) -> None:
    """End a process of the server's, and wait until it is gone."""
    with psycopg.connect(url.replace("+psycopg", "")) as other:
        other.execute("select pg_terminate_backend(%s, 60000)", (pid,))


def die_in_the_middle(url: str) -> None:
    """Lose the connection of a transaction that has done something."""
    with database.begin(PLATFORM) as session:
        make_expert(session)
        end(url, session.scalars(text("select pg_backend_pid()")).one())
        session.execute(text("select 1"))


def test_a_connection_that_died_while_it_rested_is_replaced(committed: str) -> None:
    lab = Scope("stumpwork_lab", new_id())
    dead, role, tenant = backend(lab)
    assert (role, tenant) == ("stumpwork_lab", str(lab.tenant))
    end(committed, dead)
    for _ in range(2):
        pid, role, tenant = backend(lab)
        assert pid != dead
        assert (role, tenant) == ("stumpwork_lab", str(lab.tenant))


def test_a_connection_that_dies_in_the_middle_loses_its_transaction_and_says_so(
    committed: str,
) -> None:
    with pytest.raises(OperationalError):
        die_in_the_middle(committed)
    with database.begin() as session:
        assert session.scalar(select(func.count()).select_from(Expert)) == 0


class TurnedDownError(Exception):
    """What somebody further out catches."""


def turn_down(statement: str) -> None:
    """Do something as the platform, inside somebody's unit of work, and refuse."""
    with database.begin(PLATFORM) as session:
        session.execute(text(statement))
        raise TurnedDownError


def test_who_catches_a_refusal_goes_on_as_who_it_was(committed: str) -> None:
    lab = Scope("stumpwork_lab", new_id())
    who = text("select current_user, current_setting('stumpwork.tenant')")
    token = current_scope.set(lab)
    try:
        with database.unit() as session:
            with pytest.raises(TurnedDownError), session.begin_nested():
                turn_down("select 1")
            assert session.execute(who).one() == ("stumpwork_lab", str(lab.tenant))
            with pytest.raises(DataError), session.begin_nested():
                turn_down("select 1 / 0")
            assert session.execute(who).one() == ("stumpwork_lab", str(lab.tenant))
            with database.begin(PLATFORM) as inner:
                assert inner.execute(who).scalar() == "stumpwork_platform"
        with pytest.raises(OperationalError), database.unit():
            die_in_the_middle(committed)
    finally:
        current_scope.reset(token)


def test_a_unit_whose_part_was_refused_is_not_committed_though_somebody_catches_it(
    committed: str,
) -> None:
    del committed
    told = f"""insert into market.event (id, type, subject_id, at, data)
        values ('{new_id()}', 'quality.alert', '{new_id()}', now(), '{{}}')"""

    def carry_on() -> None:
        with database.unit(), suppress(TurnedDownError):
            turn_down(told)

    with pytest.raises(RuntimeError, match="a block of this unit failed"):
        carry_on()
    with database.unit() as session, pytest.raises(TurnedDownError), session.begin_nested():
        turn_down(told)
    with database.begin() as session:
        assert session.scalar(select(func.count()).select_from(EventRow)) == 0


def open_slot(db: Session) -> TaskSlot:
    """A seat that nobody has."""
    task = make_task(db, make_project(db), slots=1)
    return db.scalars(select(TaskSlot).where(TaskSlot.task_id == task.id)).one()


def history(db: Session, subject_id: UUID) -> list[tuple[str, str]]:
    """The moves of a thing that an event told of."""
    return [
        (found[0], found[1])
        for found in db.execute(
            select(StateChange.action, EventRow.type)
            .join(EventRow, EventRow.id == StateChange.event_id)
            .where(StateChange.subject_id == subject_id)
        )
    ]


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_move_writes_its_row_its_history_and_its_event(db: Session, is_changed: bool) -> None:
    slot = open_slot(db)
    if is_changed:
        # What somebody set before is written with the move.
        slot.number = 7
    change_state(db, SLOT, slot, "retire", at=AT, event=Event.TASK_HELD, changes={"offer_id": None})
    assert (slot.state, slot.version) == ("released", 2)
    db.expire(slot)
    assert (slot.state, slot.version) == ("released", 2)
    assert slot.number == (7 if is_changed else 1)
    assert history(db, slot.id) == [("retire", "task.held")]


def test_a_move_of_what_is_gone_is_refused_and_leaves_no_history(db: Session) -> None:
    slot = open_slot(db)
    db.execute(
        delete(TaskSlot).where(TaskSlot.id == slot.id),
        execution_options={"synchronize_session": False},
    )
    with pytest.raises(StaleDataError, match="task_slot"):
        change_state(db, SLOT, slot, "retire", at=AT)
    assert history(db, slot.id) == []


def test_a_move_of_what_another_moved_meanwhile_is_refused_and_leaves_no_history(
    db: Session,
) -> None:
    slot = open_slot(db)
    db.execute(
        update(TaskSlot).where(TaskSlot.id == slot.id).values(version=slot.version + 1),
        execution_options={"synchronize_session": False},
    )
    with pytest.raises(StaleDataError, match="of version 1"):
        change_state(db, SLOT, slot, "retire", at=AT)
    assert history(db, slot.id) == []
