"""What may be refused when someone signs up, comes in or hands out keys."""

import hashlib
import re
import unicodedata
from datetime import timedelta
from uuid import UUID

from market.auth import SCOPES, Part
from market.errors import MarketError

EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")
MAX_KEY_DAYS = 400
DEFAULT_KEY_DAYS = 90
VISIT_LASTS = timedelta(hours=12)
"""How long a browser stays in before it must show its key again."""


CLAIM_KINDS = ("email", "device", "payout_account", "phone", "document", "institution")
"""What ties people to each other; all but an institution say that they are one and the same."""

MAX_CLAIM = 500


class ClaimInvalid(MarketError):
    """Something told about a person that cannot be what somebody means."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field


class EmailTaken(MarketError):
    """Someone has signed up with this address."""

    def __init__(self, email: str) -> None:
        super().__init__("this e-mail address has signed up; use its key, or another address")
        self.email = email


class EmailInvalid(MarketError):
    """A text that is no e-mail address."""

    def __init__(self, email: str) -> None:
        super().__init__(f"{email[:80]!r} is no e-mail address")


class NameBlank(MarketError):
    """A name with nothing in it, or too much."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} needs 1 to 200 characters")
        self.field = field


class KeyNotFound(MarketError):
    """No key of the caller's has this id."""

    def __init__(self, key_id: UUID) -> None:
        super().__init__("you have no such key")
        self.key_id = key_id


class PersonNotFound(MarketError):
    """No person has this id."""

    def __init__(self, person_id: UUID) -> None:
        super().__init__("there is no such person")
        self.person_id = person_id


class ScopesBeyond(MarketError):
    """Scopes that the key which asks has not got itself."""

    def __init__(self, scopes: frozenset[str]) -> None:
        listed = ", ".join(sorted(scopes))
        super().__init__(f"a key cannot hand out what it does not hold: {listed}")
        self.missing = sorted(scopes)


class KeyLifetime(MarketError):
    """A key that would live too long."""

    def __init__(self, days: int) -> None:
        super().__init__(f"a key lives 1 to {MAX_KEY_DAYS} days, not {days}")
        self.days = days


def scopes_within(wanted: frozenset[str] | None, held: frozenset[str]) -> frozenset[str]:
    """What a new key may do: what is wanted, or all that the asking key holds.

    Raises:
        ScopesBeyond.
    """
    if wanted is None:
        return held
    if beyond := wanted - held:
        raise ScopesBeyond(beyond)
    return wanted


def scopes_of(part: Part) -> frozenset[str]:
    """All that a part may do."""
    return SCOPES[part]


def claim_digest(kind: str, value: str) -> bytes:
    """What is kept of a claim: never the thing itself; small differences of writing are none.

    Raises:
        ClaimInvalid.
    """
    if kind not in CLAIM_KINDS or kind == "email":
        raise ClaimInvalid("kind", "one of " + ", ".join(CLAIM_KINDS[1:]))
    plain = " ".join(unicodedata.normalize("NFKC", value).casefold().split())
    if not 1 <= len(plain) <= MAX_CLAIM:
        raise ClaimInvalid("value", f"1 to {MAX_CLAIM} characters")
    return hashlib.sha256(f"{kind}:{plain}".encode()).digest()
