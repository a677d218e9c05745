"""Keeping the books, and finding what is wrong in them."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from market.books.actions import open_check
from market.books.jobs import check_books, keep_books, prove_books
from market.books.queries import EVERY_INVARIANT, PAY_INVARIANTS, check_under_way, untrue
from market.books.rules import BooksBroken
from market.db import database
from market.earnings.actions import accrue_earning
from market.earnings.models import Earning
from market.settings import SettingMissing, Settings, in_force
from market.treasury.actions import gateway
from payouts import chart
from payouts.ledger import balance
from payouts.ledger_models import ChainLink, JournalEntry, UnfoldedLine
from payouts.proof_models import Proof
from tests.factories import AT, make_expert, make_project, make_task
from tests.market.earned import end_offer, make_active_offer, work_on

SLOT = "2026-03-02T00:00:00+00:00"


def an_hour_is_paid(session: Session) -> Earning:
    expert = make_expert(session, at=AT)
    project = make_project(session)
    offer = make_active_offer(session, project, make_task(session, project), expert.id)
    work_on(session, offer, AT, 3600)
    end_offer(session, offer)
    (line,) = accrue_earning(session, offer.id, at=AT)
    return line


def test_keeping_the_books_folds_and_chains_and_changes_no_balance(committed: str) -> None:
    del committed
    with database.begin() as session:
        an_hour_is_paid(session)
        fees = balance(session, chart.platform_fee())
    keep_books(SLOT)
    keep_books(SLOT)
    with database.begin() as session:
        assert session.scalar(select(func.count()).select_from(UnfoldedLine)) == 0
        entries = session.scalar(select(func.count()).select_from(JournalEntry))
        assert session.scalar(select(func.count()).select_from(ChainLink)) == entries
        assert balance(session, chart.platform_fee()) == fees
    check_books(SLOT)


@pytest.mark.parametrize("column", ["pay_minor", "fee_minor", "seconds"])
def test_a_line_that_is_not_what_the_ledger_says_is_found(committed: str, column: str) -> None:
    with database.begin() as session:
        an_hour_is_paid(session)
    check_books(SLOT)
    # By the owner of the database, past every grant and with the triggers off.
    with database.engine.begin() as owner:
        owner.execute(text("alter table market.earning disable trigger user"))
        owner.execute(text(f"update market.earning set {column} = {column} + 1000"))
        owner.execute(text("alter table market.earning enable trigger user"))
    del committed
    with pytest.raises(BooksBroken) as broken:
        check_books(SLOT)
    assert len(broken.value.found) >= 1


@pytest.mark.parametrize("column", ["pay_minor", "fee_minor", "seconds", "currency"])
def test_the_service_itself_cannot_raise_a_line_or_change_its_money(
    committed: str, column: str
) -> None:
    del committed
    value = "'EUR'" if column == "currency" else f"{column} + 1"
    with database.begin() as session:
        line = an_hour_is_paid(session)
    with (
        pytest.raises(DBAPIError, match=r"permission denied|only ever split"),
        database.begin() as session,
    ):
        session.execute(
            text(f"update market.earning set {column} = {value} where id = :id"), {"id": line.id}
        )


def test_without_a_key_nothing_goes_to_stripe(committed: str) -> None:
    before = in_force._settings
    in_force.open(Settings(database_url=committed, secret_key="0" * 44))
    try:
        with pytest.raises(SettingMissing, match="STRIPE_KEY"):
            gateway()
        prove_books("2026-11-22")
        with database.begin() as session:
            assert session.scalar(select(func.count()).select_from(Proof)) == 0
    finally:
        in_force._settings = before


def test_a_check_that_died_with_its_process_does_not_stand_for_the_next_one(db: Session) -> None:
    somebody = make_expert(db).id
    asked = open_check(db, by=somebody, at=AT)
    assert open_check(db, by=somebody, at=AT + timedelta(hours=1)).id == asked.id
    later = open_check(db, by=somebody, at=AT + timedelta(hours=4))
    assert later.id != asked.id
    assert check_under_way(db, at=AT + timedelta(hours=5)) == later
    assert check_under_way(db, at=AT + timedelta(hours=8)) is None


AGAIN = """
create temp table copied on commit drop as select * from market.{table};
update copied set id = gen_random_uuid();
insert into market.{table} select * from copied
"""
BREAKS = {
    "I10": "alter table market.time_entry drop constraint ex_time_entry_expert_id;"
    + AGAIN.format(table="time_entry"),
    "I11": "alter table market.pay_tier drop constraint ex_pay_tier_during;"
    + AGAIN.format(table="pay_tier"),
    "I12": "update market.earning set pay_minor = pay_minor + 100",
    "I13": "delete from market.heartbeat where seq > 1",
    "I22": "update market.earning set state = 'withheld', dispute_id = gen_random_uuid()",
}


def test_what_is_untrue_of_time_and_pay_is_found_and_all_24_are_checked(committed: str) -> None:
    del committed
    assert set(BREAKS) == set(PAY_INVARIANTS)
    assert tuple(f"I{number}" for number in range(1, 25)) == EVERY_INVARIANT
    with database.begin() as session:
        an_hour_is_paid(session)
        assert untrue(session) == []
    for invariant, statements in BREAKS.items():
        # Only the owner can do this, and has to take the guards off first.
        with Session(database.engine) as owner:
            for table in ("time_entry", "pay_tier", "heartbeat", "earning"):
                owner.execute(text(f"alter table market.{table} disable trigger user"))
            for statement in statements.split(";"):
                owner.execute(text(statement))
            assert invariant in {one.invariant for one in untrue(owner)}
            owner.rollback()
