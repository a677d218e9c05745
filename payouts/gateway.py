"""The only file that imports Stripe's library: typed writes and reads, answers turned into facts.

Nothing is retried here: the library is told not to, and whoever holds the intent row decides.
Every write takes the idempotency key as an option, never as a parameter, and sends parameters
that `payouts.calls.canonical` has cleared of nulls and floats, since the library drops the first
without a word and sends the second.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import stripe

from payouts import readings
from payouts.errors import (
    GatewayKeyMisused,
    GatewayKeyRejected,
    GatewayRefused,
    GatewayUnknown,
)
from payouts.seen import (
    AccountSeen,
    BalanceSeen,
    DisputeSeen,
    EventSeen,
    InvoiceSeen,
    LinkSeen,
    MadeSeen,
    PaymentIntentSeen,
    PayoutSeen,
    RefundSeen,
    ReversalSeen,
    TransactionSeen,
    TransferSeen,
)

if TYPE_CHECKING:
    from payouts.calls import Params

Found = TypeVar("Found")

API_VERSION = "2026-10-28.endive"
"""The version that this file's conversions were written for; the library pins the same one."""

MANY = 100
"""The longest page that Stripe gives."""


def _seconds(at: datetime) -> int:
    return int(at.astimezone(UTC).timestamp())


class Gateway:
    """One Stripe account, spoken to with one secret key.

    Raises: of every method GatewayRefused (a definite no), GatewayUnknown (nobody can tell),
    GatewayKeyMisused (our bug) or GatewayKeyRejected (the API key is not accepted).
    """

    def __init__(self, *, api_key: str, base_url: str | None = None, timeout_s: float = 20.0):
        # The library's own switches: it reports to Stripe and prints notices unless told not to.
        os.environ.setdefault("STRIPE_SUPPRESS_NOTICES", "true")
        stripe.enable_telemetry = False
        addresses = {"api": base_url.rstrip("/")} if base_url else {}
        self._client = stripe.StripeClient(
            api_key,
            stripe_version=API_VERSION,
            base_addresses=cast("Any", addresses),
            max_network_retries=0,
            http_client=stripe.RequestsClient(timeout=timeout_s),
        )

    # Writes. Each takes its key and parameters that were committed before.

    def create_account(self, params: "Params", *, key: str) -> AccountSeen:
        """Make a recipient that can hold a Stripe balance."""
        create, options = self._client.v2.core.accounts.create, _key(key)
        return _asked(lambda: readings.account(create(cast("Any", params), options)))

    def create_account_link(self, params: "Params", *, key: str) -> LinkSeen:
        """Make a page on which the recipient gives Stripe what it asks for."""
        create, options = self._client.v2.core.account_links.create, _key(key)

        def ask() -> LinkSeen:
            link = create(cast("Any", params), options)
            return LinkSeen(
                account_id=link["account"], url=link["url"], expires_at=str(link["expires_at"])
            )

        return _asked(ask)

    def create_payment_intent(self, params: "Params", *, key: str) -> PaymentIntentSeen:
        """Take a lab's money with a payment method that it gave before."""
        create, options = self._client.v1.payment_intents.create, _key(key)
        return _asked(lambda: readings.payment_intent(create(cast("Any", params), options)))

    def create_customer(self, params: "Params", *, key: str) -> MadeSeen:
        """Make whom invoices are addressed to."""
        create, options = self._client.v1.customers.create, _key(key)
        return _asked(lambda: readings.made(create(cast("Any", params), options)))

    def create_invoice(self, params: "Params", *, key: str) -> InvoiceSeen:
        """Make an invoice without lines, which nobody sees yet."""
        create, options = self._client.v1.invoices.create, _key(key)
        return _asked(lambda: readings.invoice(create(cast("Any", params), options)))

    def create_invoice_line(self, params: "Params", *, key: str) -> MadeSeen:
        """Write a named amount on an invoice."""
        _amount_named(params)
        create, options = self._client.v1.invoice_items.create, _key(key)
        return _asked(lambda: readings.made(create(cast("Any", params), options)))

    def open_invoice(self, invoice_id: str, params: "Params", *, key: str) -> InvoiceSeen:
        """Let an invoice be paid; it cannot be changed from then on."""
        finalize, options = self._client.v1.invoices.finalize_invoice, _key(key)
        return _asked(lambda: readings.invoice(finalize(invoice_id, cast("Any", params), options)))

    def void_invoice(self, invoice_id: str, params: "Params", *, key: str) -> InvoiceSeen:
        """Take an invoice back for good."""
        void, options = self._client.v1.invoices.void_invoice, _key(key)
        return _asked(lambda: readings.invoice(void(invoice_id, cast("Any", params), options)))

    def create_transfer(self, params: "Params", *, key: str) -> TransferSeen:
        """Move money from the platform's balance to a connected account's."""
        create, options = self._client.v1.transfers.create, _key(key)
        return _asked(lambda: readings.transfer(create(cast("Any", params), options)))

    def create_reversal(self, transfer_id: str, params: "Params", *, key: str) -> ReversalSeen:
        """Take a named amount back from a connected account."""
        # Without an amount Stripe takes everything back.
        _amount_named(params)
        create, options = self._client.v1.transfers.reversals.create, _key(key)
        return _asked(lambda: readings.reversal(create(transfer_id, cast("Any", params), options)))

    def create_refund(self, params: "Params", *, key: str) -> RefundSeen:
        """Send a named amount back to whoever paid."""
        _amount_named(params)
        create, options = self._client.v1.refunds.create, _key(key)
        return _asked(lambda: readings.refund(create(cast("Any", params), options)))

    def submit_evidence(self, dispute_id: str, params: "Params", *, key: str) -> DisputeSeen:
        """Answer a payer's bank with evidence; it can be sent once."""
        update, options = self._client.v1.disputes.update, _key(key)
        return _asked(lambda: readings.dispute(update(dispute_id, cast("Any", params), options)))

    def create_payout(self, params: "Params", *, key: str) -> PayoutSeen:
        """Send a named amount of the platform's own balance to its bank."""
        _amount_named(params)
        create, options = self._client.v1.payouts.create, _key(key)
        return _asked(lambda: readings.payout(create(cast("Any", params), options)))

    # Reads.

    def account(self, account_id: str) -> AccountSeen:
        """The recipient as it is now."""
        include = {"include": ["configuration.recipient", "requirements", "identity"]}
        accounts = self._client.v2.core.accounts
        return _asked(lambda: readings.account(accounts.retrieve(account_id, cast("Any", include))))

    def accounts(self) -> Iterator[AccountSeen]:
        """Every account of the platform, newest first."""
        found = _asked(lambda: self._client.v2.core.accounts.list({"limit": 20}))
        return _each(found.auto_paging_iter(), readings.account)

    def payment_intent(self, intent_id: str) -> PaymentIntentSeen:
        """The payment as it is now."""
        expand = {"expand": ["latest_charge.balance_transaction"]}
        intents = self._client.v1.payment_intents
        return _asked(
            lambda: readings.payment_intent(intents.retrieve(intent_id, cast("Any", expand)))
        )

    def payment_intents(self, *, since: datetime) -> Iterator[PaymentIntentSeen]:
        """Payments made since a moment, newest first."""
        found = _asked(
            lambda: self._client.v1.payment_intents.list(
                {
                    "created": {"gte": _seconds(since)},
                    "limit": MANY,
                    "expand": ["data.latest_charge.balance_transaction"],
                }
            )
        )
        return _each(found.auto_paging_iter(), readings.payment_intent)

    def customers(self, email: str) -> Iterator[MadeSeen]:
        """Everybody with an address whom invoices were made for, newest first."""
        found = _asked(lambda: self._client.v1.customers.list({"email": email, "limit": MANY}))
        return _each(found.auto_paging_iter(), readings.made)

    def invoice(self, invoice_id: str) -> InvoiceSeen:
        """The invoice as it is now."""
        return _asked(lambda: readings.invoice(self._client.v1.invoices.retrieve(invoice_id)))

    def invoices(self, customer_id: str) -> Iterator[InvoiceSeen]:
        """The invoices to a customer, newest first."""
        found = _asked(
            lambda: self._client.v1.invoices.list({"customer": customer_id, "limit": MANY})
        )
        return _each(found.auto_paging_iter(), readings.invoice)

    def invoice_lines(self, invoice_id: str) -> Iterator[MadeSeen]:
        """What was written on an invoice, newest first."""
        found = _asked(
            lambda: self._client.v1.invoice_items.list({"invoice": invoice_id, "limit": MANY})
        )
        return _each(found.auto_paging_iter(), readings.made)

    def payments_of_invoice(self, invoice_id: str) -> list[str | None]:
        """What has paid an invoice: each payment's id, or None where it came past Stripe."""
        found = _asked(
            lambda: self._client.v1.invoice_payments.list(
                {"invoice": invoice_id, "status": "paid", "limit": MANY}
            )
        )
        return list(_each(found.auto_paging_iter(), readings.payment_of_invoice))

    def invoice_of_payment(self, intent_id: str) -> str | None:
        """The invoice that a payment is for, if it is for one."""
        found = _asked(
            lambda: self._client.v1.invoice_payments.list(
                {"payment": {"type": "payment_intent", "payment_intent": intent_id}, "limit": 1}
            )
        )
        rows = _each(found.auto_paging_iter(), lambda one: readings.id_of(one["invoice"]))
        return next(rows, None)

    def transaction(self, transaction_id: str) -> TransactionSeen:
        """One line of the platform's balance as it is now."""

        def ask() -> TransactionSeen:
            line = self._client.v1.balance_transactions.retrieve(transaction_id)
            return readings.certain_transaction(line)

        return _asked(ask)

    def transactions_of_payout(self, payout_id: str, account_id: str) -> list[TransactionSeen]:
        """The lines of a connected account's balance that a payout took to the bank."""
        found = _asked(
            lambda: self._client.v1.balance_transactions.list(
                {"payout": payout_id, "limit": MANY, "expand": ["data.source"]},
                {"stripe_account": account_id},
            )
        )
        return list(_each(found.auto_paging_iter(), readings.certain_transaction))

    def transactions(
        self, *, since: datetime, account_id: str | None = None
    ) -> Iterator[TransactionSeen]:
        """The lines of a balance, the platform's or a connected account's, newest first."""
        options = {"stripe_account": account_id} if account_id else {}
        found = _asked(
            lambda: self._client.v1.balance_transactions.list(
                {"created": {"gte": _seconds(since)}, "limit": MANY}, cast("Any", options)
            )
        )
        return _each(found.auto_paging_iter(), readings.certain_transaction)

    def dispute(self, dispute_id: str) -> DisputeSeen:
        """The dispute of a payment as it is now."""
        disputes = self._client.v1.disputes
        return _asked(lambda: readings.dispute(disputes.retrieve(dispute_id)))

    def transfer(self, transfer_id: str) -> TransferSeen:
        """The transfer as it is now."""
        return _asked(lambda: readings.transfer(self._client.v1.transfers.retrieve(transfer_id)))

    def transfers(self, *, transfer_group: str, since: datetime) -> Iterator[TransferSeen]:
        """The transfers of one group made since a moment, newest first."""
        found = _asked(
            lambda: self._client.v1.transfers.list(
                {
                    "transfer_group": transfer_group,
                    "created": {"gte": _seconds(since)},
                    "limit": MANY,
                }
            )
        )
        return _each(found.auto_paging_iter(), readings.transfer)

    def reversals(self, transfer_id: str) -> Iterator[ReversalSeen]:
        """What was taken back of a transfer, newest first."""
        found = _asked(
            lambda: self._client.v1.transfers.reversals.list(transfer_id, {"limit": MANY})
        )
        return _each(found.auto_paging_iter(), readings.reversal)

    def refund(self, refund_id: str) -> RefundSeen:
        """The refund as it is now."""
        return _asked(lambda: readings.refund(self._client.v1.refunds.retrieve(refund_id)))

    def refunds(self, payment_intent: str) -> Iterator[RefundSeen]:
        """What was sent back of a payment, newest first."""
        found = _asked(
            lambda: self._client.v1.refunds.list({"payment_intent": payment_intent, "limit": MANY})
        )
        return _each(found.auto_paging_iter(), readings.refund)

    def payout(self, payout_id: str, account_id: str | None = None) -> PayoutSeen:
        """A payout as it is now: the platform's own, or a connected account's."""
        options = {"stripe_account": account_id} if account_id else {}
        payouts = self._client.v1.payouts
        return _asked(
            lambda: readings.payout(payouts.retrieve(payout_id, {}, cast("Any", options)))
        )

    def payouts(self, *, since: datetime) -> Iterator[PayoutSeen]:
        """The platform's own payouts made since a moment, newest first."""
        found = _asked(
            lambda: self._client.v1.payouts.list(
                {"created": {"gte": _seconds(since)}, "limit": MANY}
            )
        )
        return _each(found.auto_paging_iter(), readings.payout)

    def balance(self, account_id: str | None = None) -> BalanceSeen:
        """What lies at Stripe: the platform's, or a connected account's."""

        def ask() -> BalanceSeen:
            options = {"stripe_account": account_id} if account_id else {}
            found: Any = self._client.v1.balance.retrieve({}, cast("Any", options))
            return BalanceSeen(
                available=readings.amounts(found["available"]),
                pending=readings.amounts(found["pending"]),
            )

        return _asked(ask)

    def events(self, *, since: datetime, account_id: str | None = None) -> Iterator[EventSeen]:
        """Events since a moment, newest first, for those whose webhook never came."""
        options = {"stripe_account": account_id} if account_id else {}
        found = _asked(
            lambda: self._client.v1.events.list(
                {"created": {"gte": _seconds(since)}, "limit": MANY}, cast("Any", options)
            )
        )
        return _each(
            found.auto_paging_iter(),
            lambda event: EventSeen(id=event["id"], payload=str(event).encode()),
        )


def _key(key: str) -> Any:
    """The options that carry an idempotency key; without one the library would make one up."""
    if not key:
        raise ValueError("a write needs the key of its intent row")
    return {"idempotency_key": key}


def _amount_named(params: "Params") -> None:
    if not isinstance(params.get("amount"), int):
        raise ValueError("an amount has to be named, or Stripe takes all of it")


def _asked(ask: Callable[[], Found]) -> Found:
    """Ask, and sort every way in which it can go wrong into four."""
    try:
        return ask()
    except stripe.AuthenticationError as error:
        raise GatewayKeyRejected(str(error)) from error
    except stripe.IdempotencyError as error:
        if error.http_status == 409:
            raise _unknown("the key is in use", error) from error
        raise GatewayKeyMisused(str(error), error.request_id or "") from error
    except (stripe.RateLimitError, stripe.APIConnectionError) as error:
        raise _unknown(error.code or type(error).__name__, error) from error
    except stripe.StripeError as error:
        if error.http_status in (400, 402, 403, 404):
            raise GatewayRefused(
                error.http_status,
                error.code or "",
                error.user_message or str(error),
                error.request_id or "",
            ) from error
        raise _unknown(type(error).__name__, error) from error
    except Exception as error:
        # A cut-off body or an answer of another shape shows as any exception at all, and what
        # was asked may have been done.
        raise GatewayUnknown(f"{type(error).__name__}: {error}") from error


def _unknown(reason: str, error: stripe.StripeError) -> GatewayUnknown:
    """An answer that tells nothing, with how long Stripe asks to be left alone."""
    headers: Any = error.headers or {}
    wait = str(headers.get("retry-after") or headers.get("Retry-After") or "")
    return GatewayUnknown(
        reason,
        error.http_status,
        error.request_id or "",
        retry_after_s=float(wait) if wait.isdigit() else None,
    )


def _each(pages: Iterator[Any], convert: Callable[[Any], Found]) -> Iterator[Found]:
    """Walk through the pages of a list; each further page is a request that can go wrong too."""
    nothing: Sequence[Any] = ()
    while True:
        item = _asked(lambda: next(pages, nothing))
        if item is nothing:
            return
        yield _asked(partial(convert, item))
