"""When a webhook is sent again, how it is signed, when an endpoint is given up, refusals; pure.

Source: Standard Webhooks 1.0.0, for headers, signatures and schedule.
"""

import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks import Webhook

from market.errors import MarketError
from market.states import Machine, Move

ENDPOINT = Machine(
    "webhook_endpoint",
    ("active",),
    (
        Move("fail", ("active",), "failing"),
        Move("recover", ("failing",), "active"),
        Move("disable", ("active", "failing"), "disabled"),
        Move("enable", ("disabled",), "active"),
    ),
)
"""Source: the row "webhook endpoint" of the requirements."""

DELIVERY = Machine(
    "webhook_delivery",
    ("pending",),
    (
        Move("deliver", ("pending", "retrying"), "delivered"),
        Move("retry", ("pending",), "retrying"),
        Move("exhaust", ("pending", "retrying"), "exhausted"),
        Move("replay", ("delivered", "exhausted"), "replayed"),
    ),
)
"""Source: the row "delivery" of the requirements."""

OPEN = ("pending", "retrying")

SCHEDULE = (
    timedelta(0),
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""How long each attempt waits after the one before it: ten attempts within about 76 hours."""

JITTER = 0.1
"""The most by which a wait is longer or shorter than the schedule says, as a share of it."""

LONGEST_RETRY_AFTER = timedelta(hours=24)
SLOW_DOWN = timedelta(seconds=5)
SLOWEST = timedelta(minutes=5)
WARN_AFTER = timedelta(days=3)
DISABLE_AFTER = timedelta(days=5)
OVERLAP = timedelta(hours=24)
LONGEST_OVERLAP = timedelta(days=7)
MAX_BODY_BYTES = 20_000
TIMEOUT_S = 20.0
SLOW_S = 2.0
"""An endpoint that takes longer than this to answer shares the lanes of the slow."""

MAX_ENDPOINTS = 20
MAX_REPLAY = 10_000
SLOW_STATUSES = (429, 502, 504)


class SignatureKind(StrEnum):
    """How an endpoint's webhooks are signed: by a shared secret, or by a key of ours."""

    HMAC = "v1"
    ED25519 = "v1a"


class Outcome(StrEnum):
    """How an attempt ended."""

    DELIVERED = "delivered"
    FAILED = "failed"
    GONE = "gone"


class EndpointNotFound(MarketError):
    """No webhook endpoint has this id, or it is somebody else's."""

    def __init__(self, endpoint_id: UUID) -> None:
        super().__init__("you have no such webhook endpoint")
        self._endpoint_id = endpoint_id


class DeliveryNotFound(MarketError):
    """No webhook delivery has this id, or it is somebody else's."""

    def __init__(self, delivery_id: UUID) -> None:
        super().__init__("you have no such webhook delivery")
        self._delivery_id = delivery_id


class EndpointUrlInvalid(MarketError):
    """An address that webhooks cannot be sent to."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"webhooks cannot be sent there: {reason}")
        self.reason = reason


class TooManyEndpoints(MarketError):
    """One endpoint more than anybody may have."""

    def __init__(self) -> None:
        super().__init__(f"you have {MAX_ENDPOINTS} webhook endpoints; remove one first")
        self.most = MAX_ENDPOINTS


class EndpointDisabled(MarketError):
    """Something to be sent to an endpoint that is switched off."""

    def __init__(self) -> None:
        super().__init__("this endpoint is disabled; enable it first")


class DeliveryOpen(MarketError):
    """A replay of a delivery that is still being tried."""

    def __init__(self, state: str) -> None:
        super().__init__(f"this delivery is {state}: it is sent by itself; replay it afterwards")
        self.delivery_state = state


class ReplayRangeInvalid(MarketError):
    """A range of places that cannot be sent again."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this range cannot be replayed: {reason}")
        self.reason = reason


class OverlapInvalid(MarketError):
    """A time for which an old secret cannot go on signing."""

    def __init__(self) -> None:
        most = int(LONGEST_OVERLAP.total_seconds() // 3600)
        super().__init__(f"the old secret goes on signing for 0 to {most} hours")
        self.most_hours = most


def next_wait(failures: int, spread: float, *, retry_after: timedelta | None) -> timedelta | None:
    """How long to wait after so many failures; None when there is no further attempt.

    Units: spread from 0 to 1, a random number; 0.5 is the schedule itself.
    """
    if failures >= len(SCHEDULE):
        return None
    wait = SCHEDULE[failures] * (1 + JITTER * (2 * spread - 1))
    return max(wait, retry_after) if retry_after is not None else wait


def slow_down(level: int, retry_after: timedelta | None) -> timedelta:
    """How long an endpoint that asks for less is left alone: twice as long each time."""
    wait = min(SLOW_DOWN * (1 << min(level, 10)), SLOWEST)
    return max(wait, retry_after) if retry_after is not None else wait


def read_retry_after(headers: Mapping[str, str], *, at: datetime) -> timedelta | None:
    """What a `Retry-After` asks for, in seconds or as a date, up to a day; None without one."""
    text = next((v for k, v in headers.items() if k.lower() == "retry-after"), "").strip()
    if text.isascii() and text.isdecimal():
        wait = timedelta(seconds=min(int(text[:9]), 10**8))
    else:
        try:
            until = parsedate_to_datetime(text)
        except ValueError:
            return None
        wait = (until if until.tzinfo else until.replace(tzinfo=UTC)) - at
    return min(max(wait, timedelta(0)), LONGEST_RETRY_AFTER)


def outcome_of(status: int) -> Outcome:
    """What a status means: 2xx arrived, 410 never again, and anything else did not arrive."""
    if 200 <= status < 300:
        return Outcome.DELIVERED
    return Outcome.GONE if status == 410 else Outcome.FAILED


# Signatures ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs an endpoint's webhooks, as it is kept under seal."""

    kind: SignatureKind
    secret: str

    @property
    def public_key(self) -> str | None:
        """What a receiver checks signatures with, if that is not the secret itself."""
        if self.kind is SignatureKind.HMAC:
            return None
        raw = self._private().public_key().public_bytes_raw()
        return "whpk_" + base64.b64encode(raw).decode()

    def sign(self, message_id: str, at: datetime, body: bytes) -> str:
        """One signature over `id.timestamp.body`, with its version in front."""
        if self.kind is SignatureKind.HMAC:
            return Webhook(self.secret).sign(message_id, at, body.decode())
        content = f"{message_id}.{int(at.timestamp())}.".encode() + body
        return "v1a," + base64.b64encode(self._private().sign(content)).decode()

    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(
            base64.b64decode(self.secret.removeprefix("whsk_"))
        )


def fresh_key(kind: SignatureKind) -> SigningKey:
    """A new key of 32 random bytes."""
    prefix = "whsec_" if kind is SignatureKind.HMAC else "whsk_"
    return SigningKey(kind, prefix + base64.b64encode(secrets.token_bytes(32)).decode())


def signed_headers(
    keys: Sequence[SigningKey], message_id: str, body: bytes, *, at: datetime
) -> dict[str, str]:
    """The headers of one message, with a signature by every key in force."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "Stumpwork-Webhooks/1",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(key.sign(message_id, at, body) for key in keys),
    }
