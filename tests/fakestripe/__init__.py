"""A stand-in for Stripe: one process on loopback, spoken to by Stripe's own Python library.

What it is: a double written by us and checked against Stripe's published description (the SDK's
request types and the OpenAPI documents, where those data files lie beside the checkout). It was
never run against Stripe, and a green test against it proves nothing about real verification flows,
risk holds, the behaviour of banks, undocumented payout rules, exact error codes or timing.

Start it as a program::

    python -m tests.fakestripe --host 127.0.0.1 --port 0

It prints one line with its address once it listens. Stripe's library reaches it through
``base_addresses``. Everything under a path that begins with an underscore is the stand-in's own
and exists nowhere at Stripe: ``/_bank`` and ``/_bank/check`` (balances and the conservation law),
``/_gate`` (requests that Stripe's description forbids), ``/_faults`` (what shall go wrong, and
when), ``/_clock``, ``/_accounts/...``, ``/_payouts/...``, ``/_payment_intents/...``,
``/_webhooks...`` and ``/_onboard/...``, a page that plays the part of hosted onboarding.

Payment methods that mean something here, named after Stripe's own test tokens:
``pm_card_bypassPending`` (succeeds, money available at once), ``pm_card_visa`` (succeeds, money
available after the settling delay), ``pm_card_chargeDeclined``, ``pm_usBankAccount_success``
(processing, then succeeded and available after the settling delay) and
``pm_usBankAccount_insufficientFunds`` (processing, then failed).
"""

from tests.fakestripe.process import FakeStripe

__all__ = ["FakeStripe"]
