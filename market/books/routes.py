"""The books, over HTTP: for ops, and their published proofs for everybody with a key."""

from datetime import date, datetime

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_201_CREATED, HTTP_202_ACCEPTED

from market.auth import Principal
from market.books.actions import (
    end_break,
    open_check,
    request_reconciliation,
    send_own_money,
    take_break,
)
from market.books.queries import (
    EVERY_INVARIANT,
    breaks,
    entry_seen,
    newest_check,
    platform_payouts,
    proof,
    proofs,
    sentence_of,
)
from market.books.rules import ProofNotFound
from market.db import PLATFORM, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    get,
    listed,
    post,
    read_id,
    wire_id,
    wire_ids,
)
from market.projects.routes import MoneyIn, MoneyOut
from payouts.bank_models import PlatformPayout
from payouts.ledger import trial_balance
from payouts.money import Money
from payouts.proof_models import Break, Proof
from payouts.proofs import inclusion


class TrialRowOut(Wire):
    """What all ledger accounts of one kind and currency come to."""

    code: str
    currency: str
    debit_minor: int
    credit_minor: int


class InvariantOut(Wire):
    """Something that must be true of the books, and of what it is not: a hundred at most."""

    id: str
    sentence: str
    broken_by: list[str] | None


class InvariantsOut(Wire):
    """What the last check of all invariants found; before the first one, nothing was looked at."""

    checked_at: datetime | None
    violations: int | None
    invariants: list[InvariantOut]


class CheckAskedOut(Wire):
    """A check of all invariants that was asked for; its operation says how far it is."""

    operation_id: str


@get("/ledger/trial-balance", scope="pay:read", tags=["Ledger"])
def get_trial_balance() -> list[TrialRowOut]:
    """What the books come to; debits and credits of a currency sum to the same."""
    with database.begin() as session:
        return [
            TrialRowOut(
                code=str(row.code),
                currency=row.currency,
                debit_minor=row.debit_minor,
                credit_minor=row.credit_minor,
            )
            for row in trial_balance(session)
        ]


@get("/ledger/invariants", scope="pay:read", tags=["Ledger"])
def get_invariants() -> InvariantsOut:
    """Everything that must be true of the books, as the last check found it.

    They are checked every night, and when somebody asks for it.
    """
    with database.begin() as session:
        last = newest_check(session)
        result = (last and last.result) or {}
    found = result.get("broken_by", {})
    return InvariantsOut(
        checked_at=last.ended_at if last else None,
        violations=result.get("violations"),
        invariants=[
            InvariantOut(id=name, sentence=sentence_of(name), broken_by=found.get(name))
            for name in EVERY_INVARIANT
        ],
    )


@post("/ledger/checks", scope="pay:write", status_code=HTTP_202_ACCEPTED, tags=["Ledger"])
def post_check(principal: NamedDependency[Principal]) -> Response[CheckAskedOut]:
    """Check every invariant now, over all the books; follow it under the address in `Location`."""
    with database.begin() as session:
        operation_id = wire_id("opn", open_check(session, by=principal.person_id, at=now()).id)
    return Response(
        CheckAskedOut(operation_id=operation_id),
        status_code=HTTP_202_ACCEPTED,
        headers={"Location": f"/v1/operations/{operation_id}"},
    )


# Against Stripe -----------------------------------------------------------------------------------


class BreakOut(Wire):
    """A movement that Stripe and the books say differently; `place` is ours or an expert's.

    Units: signed minor units, positive for money that arrived.
    """

    id: str
    place: str
    kind: str
    reference: str
    currency: str
    ours_minor: int
    theirs_minor: int
    found_at: datetime
    age_hours: int
    assigned_to: str | None
    resolution: str | None
    note: str


class BreakEndIn(Wire):
    """How a break ends: `explained`, or its difference put into `suspense`; and why."""

    how: str
    note: str


class AskedOut(Wire):
    """A reconciliation that was asked for; its proof is published when it is done."""

    id: str


class OwnMoneyIn(Wire):
    """How much of our own money goes to our bank."""

    amount: MoneyIn


class OwnMoneyOut(Wire):
    """A payout to our own bank."""

    id: str
    amount: MoneyOut
    state: str
    failure: str | None
    planned_at: datetime


@get("/breaks", scope="pay:read", tags=["Ledger"])
def get_breaks(
    is_open: FromQuery[bool] = True, limit: Limit = 50, cursor: Cursor = None
) -> Page[BreakOut]:
    """Differences between Stripe and the books, newest first."""
    with database.begin() as session:
        return listed(
            session,
            breaks(is_open=is_open),
            Break.id,
            _break_out,
            limit=limit,
            cursor=cursor,
            filters=f"breaks|{is_open}",
        )


@post("/breaks/{break_id:str}/assignment", scope="pay:write", status_code=200, tags=["Ledger"])
def post_break_assignment(
    break_id: FromPath[str], principal: NamedDependency[Principal]
) -> BreakOut:
    """Say that you look into a break."""
    with database.begin() as session:
        return _break_out(take_break(session, read_id("brk", break_id), by=principal.person_id))


@post("/breaks/{break_id:str}/end", scope="pay:write", status_code=200, tags=["Ledger"])
def post_break_end(
    break_id: FromPath[str], data: JSONBody[BreakEndIn], principal: NamedDependency[Principal]
) -> BreakOut:
    """End a break by your decision."""
    with database.begin() as session:
        ended = end_break(
            session,
            read_id("brk", break_id),
            how=data.how,
            note=data.note,
            by=principal.person_id,
            at=now(),
        )
        return _break_out(ended)


@post("/reconciliations", scope="pay:write", status_code=HTTP_202_ACCEPTED, tags=["Ledger"])
def post_reconciliation(principal: NamedDependency[Principal]) -> AskedOut:
    """Match Stripe with the books now, and publish the proof."""
    with database.begin() as session:
        asked = request_reconciliation(session, by=principal.person_id, at=now())
        return AskedOut(id=wire_id("evt", asked))


@post(
    "/platform-payouts",
    scope="pay:write",
    keyed="required",
    status_code=HTTP_201_CREATED,
    tags=["Ledger"],
)
def post_own_money(
    data: JSONBody[OwnMoneyIn], principal: NamedDependency[Principal]
) -> Response[OwnMoneyOut]:
    """Send fees that we have earned to our own bank; never more than is ours."""
    money = Money(data.amount.amount_minor, data.amount.currency)
    with database.begin() as session:
        made = send_own_money(session, money=money, by=principal.person_id, at=now())
        return Response(_own_money_out(made), status_code=HTTP_201_CREATED)


@get("/platform-payouts", scope="pay:read", tags=["Ledger"])
def get_own_money(limit: Limit = 50, cursor: Cursor = None) -> Page[OwnMoneyOut]:
    """Payouts to our own bank, newest first."""
    with database.begin() as session:
        return listed(
            session,
            platform_payouts(),
            PlatformPayout.id,
            _own_money_out,
            limit=limit,
            cursor=cursor,
            filters="platform_payouts",
        )


# For everybody ------------------------------------------------------------------------------------


class ProofOut(Wire):
    """A published statement about the books.

    `digest` is the SHA-256 of `document`, byte for byte; the document names the digest of the one
    before, its totals, and the Merkle root over the entries that were new (RFC 6962).
    """

    number: int
    published_on: date
    digest: str
    document: str


class InclusionOut(Wire):
    """What shows that one of your entries stands in a published proof.

    The leaf is SHA-256 of a zero byte, the SHA-256 of `entry`, and `sealed`; `path` leads from it
    to the root in the proof's document (RFC 6962).
    """

    proof_number: int
    proof_digest: str
    entry: str
    sealed: str
    index: int
    size: int
    path: list[str]
    root: str


@get("/proofs", scope="event:read", tags=["Ledger"])
def get_proofs(before: FromQuery[int | None] = None, limit: Limit = 50) -> list[ProofOut]:
    """Published proofs, newest first; `before` is a number to go on from."""
    with database.begin() as session:
        return [_proof_out(one) for one in proofs(session, before=before, limit=limit)]


@get("/proofs/{number:int}", scope="event:read", tags=["Ledger"])
def get_proof(number: FromPath[int]) -> ProofOut:
    """One published proof."""
    with database.begin() as session:
        return _proof_out(proof(session, number))


@get("/ledger/entries/{entry_id:str}/proof", scope="event:read", tags=["Ledger"])
def get_inclusion(entry_id: FromPath[str]) -> InclusionOut:
    """What shows that an entry of yours stands in a published proof."""
    with database.begin() as session:
        # Read as the caller first: somebody else's entry is not there.
        wanted = entry_seen(session, read_id("led", entry_id))
    with database.begin(PLATFORM) as session:
        shown = inclusion(session, wanted)
        if shown is None:
            raise ProofNotFound("no proof holds this entry yet; the next one is out within a day")
        return InclusionOut(
            proof_number=shown.proof_number,
            proof_digest=proof(session, shown.proof_number).digest,
            entry=shown.entry,
            sealed=shown.sealed,
            index=shown.index,
            size=shown.size,
            path=list(shown.path),
            root=shown.root,
        )


def _break_out(found: Break) -> BreakOut:
    return BreakOut(
        id=wire_id("brk", found.id),
        place=found.place,
        kind=str(found.kind),
        reference=found.reference,
        currency=found.currency,
        ours_minor=found.ours_minor,
        theirs_minor=found.theirs_minor,
        found_at=found.found_at,
        age_hours=int(((found.resolved_at or now()) - found.found_at).total_seconds() // 3600),
        assigned_to=wire_ids("per", found.assigned_to),
        resolution=found.resolution,
        note=found.note,
    )


def _own_money_out(found: PlatformPayout) -> OwnMoneyOut:
    return OwnMoneyOut(
        id=wire_id("ppo", found.id),
        amount=MoneyOut(amount_minor=found.amount_minor, currency=found.currency),
        state=str(found.state),
        failure=found.failure_text,
        planned_at=found.planned_at,
    )


def _proof_out(found: Proof) -> ProofOut:
    return ProofOut(
        number=found.number,
        published_on=found.at.date(),
        digest=found.digest,
        document=found.document,
    )


ROUTES: list[HTTPRouteHandler] = [
    get_trial_balance,
    get_invariants,
    post_check,
    get_breaks,
    post_break_assignment,
    post_break_end,
    post_reconciliation,
    post_own_money,
    get_own_money,
    get_proofs,
    get_proof,
    get_inclusion,
]
