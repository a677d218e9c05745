"""The stand-in for Stripe and the house beside it, for the tests of money."""

from collections.abc import Iterator

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from market.books.queries import untrue
from market.db import database
from market.settings import Settings, in_force
from tests.fakestripe import FakeStripe
from tests.market.house import House
from tests.market.receiver import Receiver, receiving
from tests.payouts.scene import API_KEY, SECRET, THIN_SECRET, Mailbox


@pytest.fixture(scope="session")
def post_box() -> Iterator[Mailbox]:
    """A receiver of webhooks on loopback, which hands them on when a test says so."""
    box = Mailbox()
    box.start()
    yield box
    box.stop()


@pytest.fixture(scope="session")
def stripe_beside(post_box: Mailbox) -> Iterator[FakeStripe]:
    """The stand-in as its own process."""
    base = f"http://127.0.0.1:{post_box.port}"
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
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks on loopback that a test tells how to answer."""
    with receiving() as found:
        yield found


@pytest.fixture
def house(
    stripe_beside: FakeStripe,
    post_box: Mailbox,
    committed: str,
    settings: Settings,
    whole_app: TestClient[Litestar],
) -> Iterator[House]:
    """The web and its jobs on a database of their own; at the end the books hold, and the bank of
    the stand-in lost no cent.
    """
    stripe_beside.reset()
    post_box.take()
    post_box.refuse = 0
    own = msgspec.structs.replace(
        settings,
        database_url=committed,
        stripe_key=API_KEY,
        stripe_base_url=stripe_beside.url,
        stripe_webhook_secret=SECRET,
        stripe_thin_secret=THIN_SECRET,
        first_payout_wait_s=0,
    )
    in_force.open(own)
    whole_app.cookies.clear()
    yield House(whole_app, stripe_beside, post_box)
    in_force.open(settings)
    with database.begin() as session:
        # Tests about breaks leave some open, which I20 is there to find.
        found = [str(one) for one in untrue(session) if one.invariant != "I20"]
    assert found == []
    stripe_beside.no_faults()
    stripe_beside.assert_clean()
