"""The pace at which this service writes to Stripe: one bucket per account, for every process.

Source: the generic cell rate algorithm (ITU-T I.371, appendix), which keeps one time per bucket
instead of a count of tokens, so that taking a place is one statement and no two get the same.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import DateTime, bindparam, text
from sqlalchemy.orm import Session

PLATFORM = "platform"

_TAKE = text(
    """
    insert into payouts.write_bucket as bucket (account, next_at)
    values (:account, cast(:at as timestamptz) + :all)
    on conflict (account) do update
    set next_at = greatest(bucket.next_at, cast(:at as timestamptz)) + :all,
        longest_wait_s = greatest(
            bucket.longest_wait_s,
            extract(epoch from bucket.next_at - :burst - cast(:at as timestamptz))
        )
    where bucket.next_at - :burst <= cast(:at as timestamptz) + :patience
    returning next_at - :all - :burst as goes_at
    """
).bindparams(bindparam("at", type_=DateTime(timezone=True)))

_NEXT = text(
    "select next_at - cast(:burst as interval) from payouts.write_bucket where account = :account"
)

_HOLD_BACK = text(
    """
    insert into payouts.write_bucket as bucket (account, next_at, held_back)
    values (:account, cast(:until as timestamptz) + :burst, 1)
    on conflict (account) do update
    set next_at = greatest(bucket.next_at, cast(:until as timestamptz) + :burst),
        held_back = bucket.held_back + 1
    """
).bindparams(bindparam("until", type_=DateTime(timezone=True)))


@dataclass(frozen=True, slots=True)
class WriteRate:
    """How fast, how bunched, and how long a sender waits for its place before it comes back later.

    The default leaves most of what Stripe allows (25 a second for an endpoint) to others. `wait`
    is how a sender sleeps.
    """

    per_second: float = 10.0
    burst: int = 10
    patience: timedelta = timedelta(seconds=5)
    wait: Callable[[float], None] = time.sleep

    @property
    def interval(self) -> timedelta:
        """The time between two writes at full pace."""
        return timedelta(seconds=1 / self.per_second)


RATE = WriteRate()


@dataclass(frozen=True, slots=True)
class Place:
    """When a write may leave, those reserved with it following at the pace of the bucket; without
    `is_taken` nothing was reserved and one asks again then.
    """

    goes_at: datetime
    is_taken: bool


def take_places(
    session: Session,
    count: int,
    *,
    at: datetime,
    rate: WriteRate = RATE,
    account: str = PLATFORM,
) -> Place:
    """Reserve the next places in the bucket, unless the first lies further away than patience goes.

    The row is locked until the caller's transaction ends, so little may come after.
    """
    values = {
        "account": account,
        "at": at,
        "all": rate.interval * count,
        "burst": rate.interval * (rate.burst - 1),
        "patience": rate.patience,
    }
    goes_at = session.execute(_TAKE, values).scalar_one_or_none()
    if goes_at is not None:
        return Place(goes_at, is_taken=True)
    free_at = session.execute(_NEXT, {"account": account, "burst": values["burst"]}).scalar_one()
    return Place(free_at, is_taken=False)


def hold_back(
    session: Session, *, until: datetime, rate: WriteRate = RATE, account: str = PLATFORM
) -> None:
    """Let nobody write to an account before a time: Stripe has said that it is too much."""
    burst = rate.interval * (rate.burst - 1)
    session.execute(_HOLD_BACK, {"account": account, "until": until, "burst": burst})
