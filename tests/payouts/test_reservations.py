"""Many reservations at once: all that the money reaches, in order, and each key once."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from market.db import new_id
from payouts.chart import lab_funding, owed_to, platform_fee, project_budget
from payouts.errors import EmptyEntry, EntryConflict
from payouts.ledger import Line, balance, post_entry, reserve, void_pending
from payouts.reservations import Reservation, reserve_many
from tests.factories import AT, give_money


def budget(db: Session, lab: UUID, minor: int) -> UUID:
    """A project with so much money."""
    project = new_id()
    give_money(db, lab, minor)
    lines = [Line(lab_funding(lab, "USD"), project_budget(project, lab, "USD"), minor)]
    post_entry(db, key=f"test:{project}", kind="J2", lines=lines, at=AT)
    return project


def offer(key: str, lab: UUID, project: UUID, pay: int) -> Reservation:
    """What an offer reserves: its pay, and a fee of a tenth."""
    escrow = project_budget(project, lab, "USD")
    lines = (
        Line(escrow, owed_to(uuid4(), "USD"), pay),
        Line(escrow, platform_fee("USD"), pay // 10),
    )
    return Reservation(key, "J3", lines, "offer")


def test_money_goes_to_the_first_that_it_reaches(db: Session) -> None:
    lab = new_id()
    one, other = budget(db, lab, 1_000), budget(db, lab, 500)
    wanted = [
        offer("a", lab, one, 500),
        offer("b", lab, one, 500),
        offer("c", lab, one, 400),
        offer("d", lab, other, 400),
    ]
    # 550 of 1000 go to the first; the second would need 550 of 450, and the third takes 440.
    assert reserve_many(db, wanted, at=AT) == {"a", "c", "d"}
    db.execute(text("set constraints all immediate"))
    assert balance(db, project_budget(one, lab, "USD")).available_minor == 10
    assert balance(db, project_budget(other, lab, "USD")).available_minor == 60
    assert reserve_many(db, [], at=AT) == frozenset()
    void_pending(db, "a", key="a:void", at=AT)
    assert balance(db, project_budget(one, lab, "USD")).available_minor == 560


def test_a_key_is_reserved_once_and_says_the_same_thing(db: Session) -> None:
    lab = new_id()
    project = budget(db, lab, 1_000)
    first = offer("a", lab, project, 100)
    reserve(db, key="a", kind="J3", lines=first.lines, at=AT)
    second = offer("b", lab, project, 200)
    assert reserve_many(db, [first, second], at=AT) == {"a", "b"}
    assert reserve_many(db, [first, second], at=AT) == {"a", "b"}
    assert balance(db, project_budget(project, lab, "USD")).available_minor == 1_000 - 330
    with pytest.raises(EntryConflict):
        reserve_many(db, [offer("a", lab, project, 101)], at=AT)
    with pytest.raises(EmptyEntry):
        reserve_many(db, [Reservation("e", "J3", ())], at=AT)
