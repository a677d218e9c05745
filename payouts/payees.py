"""Payees: connected accounts for those who are paid, and what Stripe still asks of them."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import Select, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from payouts.calls import (
    Answer,
    Fact,
    FactKind,
    Operation,
    Params,
    Refusal,
    params_of,
    plan_call,
)
from payouts.errors import PayeeNotReady, UnknownPayee
from payouts.models import ExternalCall, Payee
from payouts.seen import AccountSeen, LinkSeen
from payouts.states import CallOperation, CallState

if TYPE_CHECKING:
    from payouts.gateway import Gateway
    from payouts.holds import HoldPolicy

ACTIVE = "active"
LINK_BUCKET_S = 300
"""A link lives for minutes; asked for twice within this time it is the same link."""

NOT_SAID = (
    "You have not said where you are paid: what you earn is kept for you until you have set up "
    "your payouts."
)

WORDS = {
    "external_account": "a bank account to be paid to",
    "individual.date_of_birth": "your date of birth",
    "individual.id_numbers": "a tax or identity number",
    "individual.address": "your address",
    "individual.documents": "a document that shows who you are",
    "individual.email": "your e-mail address",
    "individual.given_name": "your name",
    "individual.surname": "your name",
    "individual.phone": "your telephone number",
    "identity.attestations.terms_of_service": "your agreement to Stripe's terms",
}
"""The beginning of Stripe's name of a requirement, and what it means to the person."""


@dataclass(frozen=True, slots=True)
class PayeeState:
    """Whether someone can be paid, and if not, what is missing, in sentences for them to read."""

    payee_id: UUID
    account_id: str | None
    is_ready: bool
    requirements: tuple[str, ...]
    missing: tuple[str, ...]


def in_words(requirement: str) -> str:
    """Stripe's name of a requirement in words; one that we do not know is spelled out."""
    for beginning, words in WORDS.items():
        if requirement.startswith(beginning):
            return words
    spelled = requirement.rsplit("].", 1)[-1].replace(".", ", ").replace("_", " ")
    return f"something Stripe calls “{spelled}”"


def ensure_payee(
    session: Session, *, owner_id: UUID, country: str, email: str, at: datetime
) -> Payee:
    """The payee of an owner, made at the first asking together with the call that opens them.

    The call stands in `account_call_id`, to be made by `run_call`. Asked again, with another
    country or address too, the first payee is returned as it is, unless Stripe refused to open it:
    then another call is planned, with what is said this time.
    """
    session.execute(
        insert(Payee)
        .values(id=uuid7(), owner_id=owner_id, country=country.upper(), created_at=at)
        .on_conflict_do_nothing()
    )
    payee = session.scalars(select(Payee).where(Payee.owner_id == owner_id).with_for_update()).one()
    before = None
    if payee.account_call_id is not None:
        before = session.get_one(ExternalCall, payee.account_call_id)
    if before is None or before.state == CallState.REFUSED:
        payee.country = country.upper()
        call = plan_call(
            session,
            operation=CallOperation.ACCOUNT,
            natural_key=f"account:{owner_id}",
            attempt=1 if before is None else before.attempt + 1,
            subject_id=payee.id,
            params=_account_params(payee, email),
            at=at,
        )
        payee.account_call_id = call.id
        session.flush()
    return payee


def _account_params(payee: Payee, email: str) -> Params:
    """A recipient with an Express dashboard; the platform answers for fees and losses."""
    transfers = {"stripe_balance": {"stripe_transfers": {"requested": True}}}
    return {
        "contact_email": email,
        "dashboard": "express",
        "identity": {"country": payee.country.lower(), "entity_type": "individual"},
        "configuration": {"recipient": {"capabilities": transfers}},
        "defaults": {
            "responsibilities": {
                "fees_collector": "application",
                "losses_collector": "application",
            }
        },
        "include": ["configuration.recipient", "requirements", "identity"],
        "metadata": {"owner_id": str(payee.owner_id), "natural_key": f"account:{payee.owner_id}"},
    }


def payee_of(session: Session, owner_id: UUID) -> Payee | None:
    """The payee of an owner, if there is one."""
    return session.scalars(select(Payee).where(Payee.owner_id == owner_id)).one_or_none()


def payee_state(session: Session, owner_id: UUID) -> PayeeState:
    """Whether an owner can be paid, and what stands in the way.

    Raises:
        UnknownPayee.
    """
    payee = payee_of(session, owner_id)
    if payee is None:
        raise UnknownPayee(owner_id)
    return PayeeState(
        payee_id=payee.id,
        account_id=payee.account_id,
        is_ready=is_ready(payee),
        requirements=tuple(payee.requirements),
        missing=missing(payee),
    )


def is_ready(payee: Payee) -> bool:
    """Whether money may be transferred now."""
    return payee.account_id is not None and payee.transfers_status == ACTIVE and not payee.is_closed


def missing(payee: Payee) -> tuple[str, ...]:
    """What stands in the way of a payment, in the expert's words; nothing when they are ready."""
    if payee.is_closed:
        return ("Your account at Stripe has been closed; write to us and we will open another.",)
    if payee.account_id is None:
        return ("Your account at Stripe is being opened; this takes a moment.",)
    sentences = tuple(
        f"Stripe still needs {words}." for words in dict.fromkeys(map(in_words, payee.requirements))
    )
    if is_ready(payee):
        return ()
    if sentences:
        return sentences
    return ("Stripe is checking what you gave; there is nothing for you to do now.",)


def pay_blocks(session: Session, owner_id: UUID) -> tuple[str, ...]:
    """What keeps somebody from being paid, in sentences to read before any work is taken."""
    payee = payee_of(session, owner_id)
    return (NOT_SAID,) if payee is None else missing(payee)


def plan_onboarding_link(
    session: Session, *, owner_id: UUID, refresh_url: str, return_url: str, at: datetime
) -> ExternalCall:
    """Plan a page of Stripe's on which the payee gives what is missing.

    The outcome of `run_call` carries the address in `link_url`; it is not kept, since whoever
    has it may act as the payee.

    Raises:
        UnknownPayee.
        PayeeNotReady: Stripe has not opened the account yet.
    """
    payee = payee_of(session, owner_id)
    if payee is None:
        raise UnknownPayee(owner_id)
    if payee.account_id is None:
        raise PayeeNotReady(payee.id, missing(payee))
    bucket = int(at.timestamp()) // LINK_BUCKET_S
    return plan_call(
        session,
        operation=CallOperation.ACCOUNT_LINK,
        natural_key=f"account_link:{owner_id}:{bucket}",
        subject_id=payee.id,
        params={
            "account": payee.account_id,
            "use_case": {
                "type": "account_onboarding",
                "account_onboarding": {"refresh_url": refresh_url, "return_url": return_url},
            },
        },
        at=at,
    )


def record_account(
    session: Session, payee: Payee, seen: AccountSeen, *, fetched_at: datetime
) -> list[Fact]:
    """Take over how an account stands; an older look than the last changes nothing.

    The payee is to be locked by the caller.
    """
    if payee.fetched_at is not None and payee.fetched_at > fetched_at:
        return []
    was_open, was_ready = payee.account_id is not None, is_ready(payee)
    payee.account_id = payee.account_id or seen.id
    payee.transfers_status = seen.transfers_status
    payee.requirements = list(seen.requirements)
    payee.is_closed = seen.is_closed
    payee.fetched_at = fetched_at
    session.flush()
    facts = []
    if not was_open:
        facts.append(Fact(FactKind.PAYEE_OPENED, payee.id, payee.owner_id))
    if is_ready(payee) != was_ready:
        kind = FactKind.PAYEE_READY if is_ready(payee) else FactKind.PAYEE_NOT_READY
        facts.append(Fact(kind, payee.id, payee.owner_id, text=" ".join(missing(payee))))
    return facts


def record_bank_change(session: Session, payee: Payee, *, is_first: bool, at: datetime) -> None:
    """Note that money would go to another bank account from now on."""
    payee.destination_version += 1
    if not is_first:
        payee.bank_changed_at = at
    session.flush()


def let_leave(session: Session, owner_ids: Select[UUID]) -> None:
    """Send these owners all that is owed, however little it is, and from now on no others."""
    leaves = Payee.owner_id.in_(owner_ids)
    session.execute(
        update(Payee)
        .where(Payee.is_leaving != leaves)
        .values(is_leaving=~Payee.is_leaving)
        .execution_options(synchronize_session=False)
    )


def _account_answer(seen: AccountSeen) -> Answer:
    return Answer(
        object_id=seen.id,
        summary={"id": seen.id, "transfers_status": seen.transfers_status},
        record=partial(_record_opened, seen=seen),
    )


def _record_opened(
    session: Session, call: ExternalCall, at: datetime, *, seen: AccountSeen
) -> list[Fact]:
    payee = session.get_one(Payee, call.subject_id, with_for_update=True)
    return record_account(session, payee, seen, fetched_at=at)


def _open_account(gateway: "Gateway", call: ExternalCall) -> Answer:
    return _account_answer(gateway.create_account(params_of(call), key=str(call.id)))


def _find_account(gateway: "Gateway", call: ExternalCall) -> Answer | None:
    for seen in gateway.accounts():
        # The list leaves metadata and state out of some versions; the account itself has both.
        whole = gateway.account(seen.id)
        if whole.metadata.get("natural_key") == call.natural_key:
            return _account_answer(whole)
    return None


def _account_refused(
    session: Session, call: ExternalCall, refusal: Refusal, _at: datetime, _policy: "HoldPolicy"
) -> list[Fact]:
    payee = session.get_one(Payee, call.subject_id)
    return [Fact(FactKind.PAYEE_NOT_READY, payee.id, payee.owner_id, text=refusal.text)]


def _open_link(gateway: "Gateway", call: ExternalCall) -> Answer:
    seen: LinkSeen = gateway.create_account_link(params_of(call), key=str(call.id))
    return Answer(
        object_id=seen.account_id,
        summary={"account": seen.account_id, "expires_at": seen.expires_at},
        link_url=seen.url,
    )


OPERATIONS = {
    CallOperation.ACCOUNT: Operation(
        perform=_open_account, refused=_account_refused, look_up=_find_account
    ),
    # A link cannot be looked up, and one that nobody received does nothing.
    CallOperation.ACCOUNT_LINK: Operation(perform=_open_link),
}
