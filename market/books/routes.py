"""The books, over HTTP, for ops."""

from litestar.handlers import HTTPRouteHandler

from market.db import database
from market.earnings.queries import unbacked_lines
from market.http import Wire, get
from market.work.queries import unproven_time
from payouts.invariants import INVARIANTS, violations
from payouts.ledger import trial_balance


class TrialRowOut(Wire):
    """What all ledger accounts of one kind and currency come to."""

    code: str
    currency: str
    debit_minor: int
    credit_minor: int


class InvariantOut(Wire):
    """Something that must be true of the books, and of what it is not."""

    id: str
    sentence: str
    broken_by: list[str]


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
def get_invariants() -> list[InvariantOut]:
    """Everything that must be true of the books, checked now; `broken_by` should be empty."""
    with database.begin() as session:
        broken: dict[str, list[str]] = {}
        for one in violations(session):
            broken.setdefault(one.invariant, []).append(one.subject)
        found = [
            InvariantOut(id=name, sentence=sentence, broken_by=broken.get(name, []))
            for name, (sentence, _) in INVARIANTS.items()
        ]
        lines = InvariantOut(
            id="lines",
            sentence="Every line of pay is its seconds at its rate, and is in the ledger.",
            broken_by=unbacked_lines(session),
        )
        time = InvariantOut(
            id="time",
            sentence="Recorded time is what its raw heartbeats give, computed again.",
            broken_by=unproven_time(session),
        )
        return [*found, lines, time]


ROUTES: list[HTTPRouteHandler] = [get_trial_balance, get_invariants]
