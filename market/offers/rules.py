"""The states of an offer, how long things are kept waiting, and refusals; pure."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Literal, cast
from uuid import UUID

from market.errors import MarketError
from market.experts.rules import LAST_ANSWER, PACE
from market.states import Machine, Move

OFFER = Machine(
    "offer",
    ("pending",),
    (
        Move("accept", ("pending",), "accepted"),
        Move("decline", ("pending",), "declined"),
        Move("expire", ("pending",), "timed_out"),
        Move("rescind", ("pending",), "rescinded"),
        Move("cancel", ("pending",), "canceled"),
        Move("activate", ("accepted",), "active"),
        Move("release", ("accepted", "active"), "released"),
        Move("abandon", ("active", "grace"), "abandoned"),
        Move("grace", ("active",), "grace"),
        Move("complete", ("active", "grace"), "completed"),
        # What was handed in goes back to its author, with a new deadline.
        Move("rework", ("completed",), "active"),
    ),
)
"""Source: the table "Offer / reservation" of the requirements."""

LIVE = ("pending", "accepted", "active", "grace")
"""States in which an offer holds its slot, its expert's time and its project's money."""

HELD = ("accepted", "active", "grace", "completed")
"""States in which the expert has said yes, and has not given the task back."""

LOAD = """cross join lateral (
        select count(*) filter (where state in {live}) as seats,
            coalesce(sum(expected_s) filter (where state in {live}
                or (state = 'completed' and ended_at >= :monday)), 0) as seconds,
            coalesce(sum(expected_s) filter (where state in {live}), 0) as live_s,
            count(*) filter (where state in {held}) as held, {last_answer} as answered_at
        from market.offer where expert_id = {expert}.id
    ) o {pace}"""


def load_of(expert: str) -> str:
    """What an expert holds, in SQL: joins `o` and `pace` to the row of an expert of this name. It
    may be offered more while `o.seats` is below `pace.at_once` and `o.seconds` below its hours.

    Units: seconds expected of what is live, with what was done since `monday`; `live_s` without.
    """
    pace = PACE.format(expert=expert)
    return LOAD.format(live=LIVE, held=HELD, last_answer=LAST_ANSWER, pace=pace, expert=expert)


GONE = ("timed_out", "rescinded", "canceled")
"""States that leave nothing behind: the same expert may be offered the same task again."""


class OfferNotFound(MarketError):
    """No offer has this id, or it is another expert's."""

    def __init__(self, offer_id: UUID) -> None:
        super().__init__("you have no such offer")
        self.offer_id = offer_id


class OfferExpired(MarketError):
    """An answer to an offer after its deadline."""

    def __init__(self, expires_at: datetime) -> None:
        super().__init__(f"this offer ended at {expires_at:%Y-%m-%dT%H:%M:%SZ}; wait for the next")
        self.expired_at = expires_at.isoformat()


class OverlapFull(MarketError):
    """A seat that somebody else has, or that was taken back; the offer cannot be accepted."""

    def __init__(self) -> None:
        super().__init__("the seat of this offer is no longer free; nothing is held against you")


class NotEligible(MarketError):
    """An expert who may not take this work now, with the conditions that fail."""

    def __init__(self, conditions: Sequence[str]) -> None:
        super().__init__("you cannot take this work now: " + "; ".join(conditions))
        self.conditions = list(conditions)


class ProjectNotLive(MarketError):
    """Work on a project that does not take any at the moment."""

    def __init__(self, state: str) -> None:
        super().__init__(
            f"the project is {state}; offers are made, accepted and begun while it is live"
        )
        self.project_state = state


class LeaseLost(MarketError):
    """Work begun after the time in which it had to be begun; the seat went to others."""

    def __init__(self, lease_until: datetime) -> None:
        super().__init__(
            f"this work had to begin by {lease_until:%Y-%m-%dT%H:%M:%SZ}; wait for the next offer"
        )
        self.lease_ended_at = lease_until.isoformat()


class AnswerReasonUnknown(MarketError):
    """An offer declined, or a task given back, without one of the known reasons."""

    def __init__(self) -> None:
        super().__init__(f"say why, as one of: {', '.join(REASONS)}")
        self.known = list(REASONS)


REASONS = (
    "not_interested",
    "no_time",
    "outside_expertise",
    "task_unclear",
    "task_broken",
    "conflict_of_interest",
    "pay_too_low",
    "other",
)
"""Why an expert declines an offer or gives a task back; none of them counts against anyone."""


def checked_reason(reason: str) -> str:
    """The reason itself, once it is certain to be a known one.

    Raises:
        AnswerReasonUnknown.
    """
    if reason not in REASONS:
        raise AnswerReasonUnknown()
    return reason


def reservation_key(offer_id: UUID) -> str:
    """The key of the journal entry that reserves an offer's money."""
    return f"offer:{offer_id}"


RECORDING = "market: matching runs record"
"""The name of the lock under which runs record, one at a time, and reservations are let go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an expert is told before it accepts, and what binds afterwards.

    A tier's rate can rise while the work lasts, and never falls below `rate_minor_per_hour`.
    `expected_week_s` and `expected_week_pay_minor` are those of all of the expert's offers in this
    currency that are live, this one included.

    With `pay_basis` deliverable, accepted work pays `deliverable_minor`, and the rate is the floor
    that the time on it is topped up to. An hourly contract may pay it on top. An attempt fee is
    paid for each honest attempt, at most `attempt_fees_max` times, whatever came of it. A stump
    pays `impact_bonus_minor` more, which counts towards nothing else. Paid time on the project
    beyond `overtime_after_s` a week pays `overtime_basis_points` of the rate. What all of that can
    come to is `most_pay_minor`; what is reserved also allows for roundings.

    The work is due `work_ttl_s` after the acceptance, and never before `not_due_before`: that is
    when the hours in which the expert works hold it, for one who keeps hours.

    `draft_field` is the field of the task that its lab has put a draft into, to begin from.
    `passes_drafts` says that a draft which its expert leaves is read by whoever works on it next.
    `trials` are the experiments that had a part in these terms, or in what is shown with the task.

    Units: names ending in `_s` are seconds; names ending in `_minor` are minor units of
        `currency`; the fee in hundredths of a per cent, paid by the project on top.
    """

    project_id: str
    project_name: str
    project_version: int
    round: int
    domain: str
    complexity: int
    currency: str
    rate_minor_per_hour: int
    rate_from: Literal["project", "tier"]
    tier: str | None
    cap_s: int
    fee_basis_points: int
    expected_s: int
    expected_pay_minor: int
    most_pay_minor: int
    expected_week_s: int
    expected_week_pay_minor: int
    open_seats: int
    review_within_s: int
    reviews_per_submission: int
    work_ttl_s: int
    binding_at: str
    pay_basis: Literal["hourly", "deliverable"] = "hourly"
    deliverable_minor: int | None = None
    attempt_fee_minor: int | None = None
    attempt_fees_max: int = 0
    impact_bonus_minor: int | None = None
    weekly_cap_s: int | None = None
    overtime_after_s: int | None = None
    overtime_basis_points: int | None = None
    not_due_before: str | None = None
    draft_field: str | None = None
    passes_drafts: bool = False
    trials: tuple[dict[str, str], ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Every term under its name, as JSON can hold it."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def due_at(terms: Mapping[str, object], accepted_at: datetime) -> datetime:
    """When work under some terms is due."""
    usual = accepted_at + timedelta(seconds=cast("int", terms["work_ttl_s"]))
    floor = cast("str | None", terms.get("not_due_before"))
    return usual if floor is None else max(usual, datetime.fromisoformat(floor))


def terms_digest(terms: Mapping[str, object]) -> str:
    """A SHA-256 of terms, by which anyone can tell that they are the ones accepted."""
    text = json.dumps(terms, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
