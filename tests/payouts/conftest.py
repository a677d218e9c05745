"""The stand-in for Stripe, started once; each test begins with a clean one and its own database."""

from collections.abc import Iterator

import pytest

from market.db import database
from payouts.gateway import Gateway
from payouts.invariants import violations
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


@pytest.fixture
def scene(stripe: FakeStripe, mailbox: Mailbox, committed: str) -> Iterator[Scene]:
    """Both sides, with real commits; at the end the books hold and the bank lost no cent."""
    del committed
    gateway = Gateway(api_key=API_KEY, base_url=stripe.url, timeout_s=5)
    yield Scene(stripe, mailbox, gateway)
    with database.begin() as session:
        assert violations(session) == []
    stripe.no_faults()
    stripe.assert_clean()
