"""Keeping the books, and finding what is wrong in them."""

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from market.books.jobs import check_books, keep_books
from market.books.rules import BooksBroken
from market.db import database
from market.earnings.actions import accrue_earning
from market.earnings.models import Earning
from payouts import chart
from payouts.ledger import balance
from payouts.models import ChainLink, JournalEntry, UnfoldedLine
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
    # By the owner of the database, past every grant.
    with database.engine.begin() as owner:
        owner.execute(text(f"update market.earning set {column} = {column} + 1000"))
    del committed
    with pytest.raises(BooksBroken) as broken:
        check_books(SLOT)
    assert len(broken.value.found) >= 1


def test_the_service_itself_cannot_change_a_line(committed: str) -> None:
    del committed
    with database.begin() as session:
        line = an_hour_is_paid(session)
    with (
        pytest.raises(Exception, match="permission denied"),
        database.begin() as session,
    ):
        session.execute(
            text("update market.earning set pay_minor = 0 where id = :id"), {"id": line.id}
        )
