"""Which kinds of things have a history, and what their state was at a time; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from uuid import UUID

from market.errors import MarketError

TABLES: Mapping[str, str] = MappingProxyType(
    {
        "adm": "market.admission",
        "apl": "market.appeal",
        "att": "market.attempt",
        "dep": "market.departure",
        "dsp": "market.dispute",
        "ear": "market.earning",
        "exp": "market.experiment",
        "fix": "market.submission_fix",
        "fnd": "market.funding",
        "frd": "market.fraud_case",
        "itm": "market.bank_item",
        "mrn": "market.matching_run",
        "ofr": "market.offer",
        "pay": "payouts.payout",
        "per": "market.expert",
        "prj": "market.project",
        "prn": "market.payout_run",
        "qrl": "market.quality_rule",
        "qua": "market.qualification",
        "rcv": "market.recovery_case",
        "rev": "market.review",
        "rls": "market.model_release",
        "rpr": "market.task_repair",
        "rrq": "market.return_request",
        "ses": "market.work_session",
        "sit": "market.sitting",
        "slt": "market.task_slot",
        "sub": "market.submission",
        "thr": "market.thread",
        "tim": "market.time_entry",
        "tsk": "market.task",
        "whd": "market.webhook_delivery",
        "whe": "market.webhook_endpoint",
    }
)
"""Everything that a machine moves, by the prefix of its ids, and the table it is in."""


@dataclass(frozen=True, slots=True)
class Step:
    """One move of one machine: who, when, why."""

    from_state: str
    to_state: str
    action: str
    at: datetime
    actor_id: UUID | None
    reason_code: str | None
    note: str | None
    evidence: tuple[str, ...] = ()


class NoHistory(MarketError):
    """A kind of thing that no machine moves."""

    def __init__(self, prefix: str) -> None:
        known = ", ".join(f"{one}_" for one in TABLES)
        super().__init__(f"{prefix[:20]!r} has no history of states; these have: {known}")
        self.known = sorted(TABLES)


def state_at(steps: Sequence[Step], now_in: str, at: datetime) -> str | None:
    """The state at a time, from all moves in order; None where it was not there yet, as far as
    that is known: what began without a move stands in its first state until the first one.
    """
    state = steps[0].from_state if steps else now_in
    for step in steps:
        if step.at > at:
            break
        state = step.to_state
    return state or None
