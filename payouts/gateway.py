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

from payouts.errors import (
    GatewayKeyMisused,
    GatewayKeyRejected,
    GatewayRefused,
    GatewayUnknown,
)
from payouts.seen import (
    AccountSeen,
    BalanceSeen,
    EventSeen,
    LinkSeen,
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


def _metadata(found: Any) -> dict[str, str]:
    # The library's objects are no mappings.
    plain: dict[str, str] = found.to_dict() if found is not None else {}
    return plain


def _id(found: Any) -> str | None:
    """The id of something that may be absent, an id, or the expanded object."""
    if found is None or isinstance(found, str):
        return found
    return str(found["id"])


def _transaction(found: Any) -> TransactionSeen | None:
    if found is None or isinstance(found, str):
        return None
    source = found["source"]
    transfer = None
    if source is not None and not isinstance(source, str) and "source_transfer" in source:
        transfer = _id(source["source_transfer"])
    return TransactionSeen(
        id=found["id"],
        type=found["type"],
        category=found["reporting_category"],
        amount_minor=found["amount"],
        fee_minor=found["fee"],
        net_minor=found["net"],
        currency=found["currency"].upper(),
        status=found["status"],
        source_id=_id(source),
        source_transfer=transfer,
    )


def _payment_intent(found: Any) -> PaymentIntentSeen:
    charge = found["latest_charge"]
    error = found["last_payment_error"]
    has_line = charge is not None and not isinstance(charge, str)
    return PaymentIntentSeen(
        id=found["id"],
        status=found["status"],
        amount_minor=found["amount"],
        currency=found["currency"].upper(),
        metadata=_metadata(found["metadata"]),
        charge_id=_id(charge),
        transaction=_transaction(charge["balance_transaction"]) if has_line else None,
        failure_code=error["code"] if error is not None and "code" in error else None,
        failure_text=error["message"] if error is not None and "message" in error else None,
    )


def _transfer(found: Any) -> TransferSeen:
    return TransferSeen(
        id=found["id"],
        amount_minor=found["amount"],
        reversed_minor=found["amount_reversed"],
        currency=found["currency"].upper(),
        destination=_id(found["destination"]) or "",
        destination_payment=_id(found["destination_payment"]),
        transfer_group=found["transfer_group"],
        metadata=_metadata(found["metadata"]),
    )


def _reversal(found: Any) -> ReversalSeen:
    return ReversalSeen(
        id=found["id"],
        transfer_id=_id(found["transfer"]) or "",
        amount_minor=found["amount"],
        currency=found["currency"].upper(),
        metadata=_metadata(found["metadata"]),
    )


def _refund(found: Any) -> RefundSeen:
    return RefundSeen(
        id=found["id"],
        status=found["status"],
        amount_minor=found["amount"],
        currency=found["currency"].upper(),
        metadata=_metadata(found["metadata"]),
    )


def _payout(found: Any) -> PayoutSeen:
    return PayoutSeen(
        id=found["id"],
        status=found["status"],
        amount_minor=found["amount"],
        currency=found["currency"].upper(),
        is_reconciled=found["reconciliation_status"] == "completed",
        failure_code=found["failure_code"],
        failure_text=found["failure_message"],
    )


def _account(found: Any) -> AccountSeen:
    recipient = found["configuration"]["recipient"] if found["configuration"] is not None else None
    status = "unknown"
    if recipient is not None and recipient["capabilities"] is not None:
        status = recipient["capabilities"]["stripe_balance"]["stripe_transfers"]["status"]
    entries = found["requirements"]["entries"] if found["requirements"] is not None else []
    return AccountSeen(
        id=found["id"],
        transfers_status=status,
        requirements=tuple(
            entry["description"]
            for entry in entries or []
            if entry["awaiting_action_from"] == "user"
            and entry["minimum_deadline"]["status"] != "eventually_due"
        ),
        is_closed=bool(found["closed"]),
        metadata=_metadata(found["metadata"]),
    )


def _amounts(parts: Any) -> dict[str, int]:
    return {part["currency"].upper(): part["amount"] for part in parts}


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
        return _asked(lambda: _account(create(cast("Any", params), options)))

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
        return _asked(lambda: _payment_intent(create(cast("Any", params), options)))

    def create_transfer(self, params: "Params", *, key: str) -> TransferSeen:
        """Move money from the platform's balance to a connected account's."""
        create, options = self._client.v1.transfers.create, _key(key)
        return _asked(lambda: _transfer(create(cast("Any", params), options)))

    def create_reversal(self, transfer_id: str, params: "Params", *, key: str) -> ReversalSeen:
        """Take a named amount back from a connected account."""
        # Without an amount Stripe takes everything back.
        _amount_named(params)
        create, options = self._client.v1.transfers.reversals.create, _key(key)
        return _asked(lambda: _reversal(create(transfer_id, cast("Any", params), options)))

    def create_refund(self, params: "Params", *, key: str) -> RefundSeen:
        """Send a named amount back to whoever paid."""
        _amount_named(params)
        create, options = self._client.v1.refunds.create, _key(key)
        return _asked(lambda: _refund(create(cast("Any", params), options)))

    # Reads.

    def account(self, account_id: str) -> AccountSeen:
        """The recipient as it is now."""
        include = {"include": ["configuration.recipient", "requirements", "identity"]}
        accounts = self._client.v2.core.accounts
        return _asked(lambda: _account(accounts.retrieve(account_id, cast("Any", include))))

    def accounts(self) -> Iterator[AccountSeen]:
        """Every account of the platform, newest first."""
        found = _asked(lambda: self._client.v2.core.accounts.list({"limit": 20}))
        return _each(found.auto_paging_iter(), _account)

    def payment_intent(self, intent_id: str) -> PaymentIntentSeen:
        """The payment as it is now."""
        expand = {"expand": ["latest_charge.balance_transaction"]}
        intents = self._client.v1.payment_intents
        return _asked(lambda: _payment_intent(intents.retrieve(intent_id, cast("Any", expand))))

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
        return _each(found.auto_paging_iter(), _payment_intent)

    def transaction(self, transaction_id: str) -> TransactionSeen:
        """One line of the platform's balance as it is now."""

        def ask() -> TransactionSeen:
            line = self._client.v1.balance_transactions.retrieve(transaction_id)
            return cast("TransactionSeen", _transaction(line))

        return _asked(ask)

    def transactions_of_payout(self, payout_id: str, account_id: str) -> list[TransactionSeen]:
        """The lines of a connected account's balance that a payout took to the bank."""
        found = _asked(
            lambda: self._client.v1.balance_transactions.list(
                {"payout": payout_id, "limit": MANY, "expand": ["data.source"]},
                {"stripe_account": account_id},
            )
        )
        return list(
            _each(
                found.auto_paging_iter(), lambda line: cast("TransactionSeen", _transaction(line))
            )
        )

    def transfer(self, transfer_id: str) -> TransferSeen:
        """The transfer as it is now."""
        return _asked(lambda: _transfer(self._client.v1.transfers.retrieve(transfer_id)))

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
        return _each(found.auto_paging_iter(), _transfer)

    def reversals(self, transfer_id: str) -> Iterator[ReversalSeen]:
        """What was taken back of a transfer, newest first."""
        found = _asked(
            lambda: self._client.v1.transfers.reversals.list(transfer_id, {"limit": MANY})
        )
        return _each(found.auto_paging_iter(), _reversal)

    def refund(self, refund_id: str) -> RefundSeen:
        """The refund as it is now."""
        return _asked(lambda: _refund(self._client.v1.refunds.retrieve(refund_id)))

    def refunds(self, payment_intent: str) -> Iterator[RefundSeen]:
        """What was sent back of a payment, newest first."""
        found = _asked(
            lambda: self._client.v1.refunds.list({"payment_intent": payment_intent, "limit": MANY})
        )
        return _each(found.auto_paging_iter(), _refund)

    def payout(self, payout_id: str, account_id: str) -> PayoutSeen:
        """A connected account's payout as it is now."""
        return _asked(
            lambda: _payout(
                self._client.v1.payouts.retrieve(payout_id, {}, {"stripe_account": account_id})
            )
        )

    def balance(self, account_id: str | None = None) -> BalanceSeen:
        """What lies at Stripe: the platform's, or a connected account's."""

        def ask() -> BalanceSeen:
            options = {"stripe_account": account_id} if account_id else {}
            found: Any = self._client.v1.balance.retrieve({}, cast("Any", options))
            return BalanceSeen(
                available=_amounts(found["available"]), pending=_amounts(found["pending"])
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
            raise GatewayUnknown("the key is in use", 409, error.request_id or "") from error
        raise GatewayKeyMisused(str(error), error.request_id or "") from error
    except (stripe.RateLimitError, stripe.APIConnectionError) as error:
        raise GatewayUnknown(
            type(error).__name__, error.http_status, error.request_id or ""
        ) from error
    except stripe.StripeError as error:
        if error.http_status in (400, 402, 403, 404):
            raise GatewayRefused(
                error.http_status,
                error.code or "",
                error.user_message or str(error),
                error.request_id or "",
            ) from error
        raise GatewayUnknown(
            type(error).__name__, error.http_status, error.request_id or ""
        ) from error
    except Exception as error:
        # A cut-off body or an answer of another shape shows as any exception at all, and what
        # was asked may have been done.
        raise GatewayUnknown(f"{type(error).__name__}: {error}") from error


def _each(pages: Iterator[Any], convert: Callable[[Any], Found]) -> Iterator[Found]:
    """Walk through the pages of a list; each further page is a request that can go wrong too."""
    nothing: Sequence[Any] = ()
    while True:
        item = _asked(lambda: next(pages, nothing))
        if item is nothing:
            return
        yield _asked(partial(convert, item))
