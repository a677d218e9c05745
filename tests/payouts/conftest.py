"""The stand-in for Stripe, started once; each test begins with a clean one and its own database."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from market.db import database
from payouts.gateway import Gateway
from payouts.invariants import violations
from payouts.models import Base
from tests.databases import copy_of
from tests.fakestripe import FakeStripe
from tests.payouts.scene import API_KEY, SECRET, THIN_SECRET, Mailbox, Scene


@pytest.fixture(scope="session")
def mailbox() -> Iterator[Mailbox]:
    """A receiver of webhooks on loopback."""
    box = Mailbox()
    box.start()
    yield box
    box.stop()


@pytest.fixture(scope="session")
def stripe_process(mailbox: Mailbox) -> Iterator[FakeStripe]:
    """The stand-in as its own process."""
    base = f"http://127.0.0.1:{mailbox.port}"
    with FakeStripe(
        webhook=f"{base}/snapshot",
        webhook_secret=SECRET,
        thin_webhook=f"{base}/thin",
        thin_secret=THIN_SECRET,
        payout_delay_s=0.01,
        settle_delay_s=0.01,
    ) as process:
        yield process


@pytest.fixture
def stripe(stripe_process: FakeStripe, mailbox: Mailbox) -> FakeStripe:
    """The stand-in, remembering nothing."""
    stripe_process.reset()
    mailbox.take()
    mailbox.refuse = 0
    return stripe_process


@pytest.fixture(scope="session")
def books(server: str) -> Iterator[str]:
    """A database for all tests of Stripe's side: emptied between them, which beats making one."""
    with copy_of(server) as url:
        yield url


def empty(url: str) -> None:
    """Take every row out, past the triggers that refuse it."""
    tables = [
        sql.Identifier(table.schema or "payouts", table.name)
        for table in Base.metadata.sorted_tables
        if table.name != "state_rule"
    ]
    switch = "alter table {} {} trigger user"
    steps = [sql.SQL(switch).format(table, sql.SQL("disable")) for table in tables]
    steps.append(sql.SQL("truncate {}").format(sql.SQL(", ").join(tables)))
    steps += [sql.SQL(switch).format(table, sql.SQL("enable")) for table in tables]
    with psycopg.connect(url.replace("+psycopg", "")) as owner:
        owner.execute(sql.SQL("; ").join(steps))


@pytest.fixture
def scene(stripe: FakeStripe, mailbox: Mailbox, books: str) -> Iterator[Scene]:
    """Both sides, with real commits; at the end the books hold and the bank lost no cent."""
    empty(books)
    database.open(books, pool_size=16)
    gateway = Gateway(api_key=API_KEY, base_url=stripe.url, timeout_s=60)
    yield Scene(stripe, mailbox, gateway)
    with database.begin() as session:
        # Tests about breaks leave some open, which I20 is there to find.
        found = [one for one in violations(session) if one.invariant != "I20"]
    database.close()
    assert found == []
    stripe.no_faults()
    stripe.assert_clean()
