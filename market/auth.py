"""Who makes a request: keys, the principal behind one, and what each part may do."""

import base64
import hashlib
import hmac
import secrets
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from cryptography.fernet import Fernet

from market.db import NOBODY, PLATFORM, Scope
from market.errors import MarketError
from market.settings import SettingInvalid


class Part(StrEnum):
    """The parts that a person can play; a key plays one of them."""

    LAB = "lab"
    EXPERT = "expert"
    REVIEWER = "reviewer"
    OPS = "ops"


SCOPES: dict[Part, frozenset[str]] = {
    Part.LAB: frozenset(
        {
            "organisation:read",
            "event:read",
            "thread:read",
            "thread:write",
            "webhook:read",
            "webhook:write",
            "key:write",
            "project:read",
            "project:write",
            "release:write",
            "message:write",
            "return:write",
            "repair:write",
            "task:read",
            "work:read",
            "task:write",
            "fund:read",
            "fund:write",
            "dispute:write",
            "delivery:read",
        }
    ),
    Part.EXPERT: frozenset(
        {
            "event:read",
            "thread:read",
            "thread:write",
            "webhook:read",
            "webhook:write",
            "key:write",
            "profile:read",
            "profile:write",
            "offer:read",
            "offer:write",
            "work:read",
            "work:write",
            "earning:read",
            "payee:write",
            "dispute:write",
            "qualification:read",
            "qualification:write",
            "appeal:read",
            "appeal:write",
        }
    ),
    Part.REVIEWER: frozenset(
        {
            "event:read",
            "thread:read",
            "thread:write",
            "key:write",
            "review:read",
            "review:write",
            # Its tests are paid as an expert's are.
            "earning:read",
            "payee:write",
            "qualification:read",
            "qualification:write",
            "appeal:read",
            "appeal:write",
        }
    ),
    Part.OPS: frozenset(
        {
            "event:read",
            "thread:read",
            "thread:write",
            "webhook:read",
            "webhook:write",
            "key:write",
            "organisation:read",
            "audit:read",
            "people:write",
            "project:read",
            "release:write",
            "message:write",
            "return:write",
            "repair:write",
            "task:read",
            "work:read",
            "expert:read",
            "expert:write",
            "qualification:read",
            "qualification:grade",
            "appeal:read",
            "appeal:decide",
            "policy:read",
            "policy:write",
            "match:read",
            "match:write",
            "offer:read",
            "review:read",
            "earning:read",
            "pay:read",
            "pay:write",
            "dispute:write",
            "dispute:decide",
            "queue:read",
            "queue:write",
            "fund:read",
            "delivery:read",
        }
    ),
}
"""The most that a key of each part can be given; a key may be given less."""

KEY_PREFIX = "sw"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever makes this request."""

    person_id: UUID
    part: Part
    organisation_id: UUID | None
    scopes: frozenset[str]
    key_id: UUID

    @property
    def tenant(self) -> UUID:
        """Whose rows this principal works on: its lab's, or its own."""
        return self.organisation_id or self.person_id

    @property
    def scope(self) -> Scope:
        """As what its transactions run."""
        if self.part is Part.OPS:
            return PLATFORM
        return Scope(f"stumpwork_{self.part.value}", self.tenant)


class KeyMissing(MarketError):
    """A request without a key to something that needs one."""

    def __init__(self) -> None:
        super().__init__("send your API key as `Authorization: Bearer sw_...`")


class KeyRefused(MarketError):
    """A key that is unknown, revoked or expired."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this API key {reason}; make a new one under /v1/keys")
        self.reason = reason


class ScopeMissing(MarketError):
    """A key that may not do this."""

    def __init__(self, scope: str, part: Part) -> None:
        super().__init__(f"this key lacks the scope {scope}; it plays the part {part.value}")
        self.scope = scope


class SecretKey:
    """A fresh API key: shown to its owner once, kept as a hash."""

    def __init__(self, key_id: UUID) -> None:
        self.key_id = key_id
        secret = secrets.token_urlsafe(32)
        self.text = f"{KEY_PREFIX}_{key_id.hex}_{secret}"
        self.digest = digest_of(secret)


def digest_of(secret: str) -> bytes:
    """What is kept of a key: SHA-256, enough for 256 random bits and quick on every request."""
    return hashlib.sha256(secret.encode()).digest()


def read_key(text: str) -> tuple[UUID, bytes]:
    """The id and the digest that a key in a header carries.

    Raises:
        KeyRefused.
    """
    parts = text.split("_", 2)
    if len(parts) != 3 or parts[0] != KEY_PREFIX:
        raise KeyRefused("has not the form of a key")
    try:
        key_id = UUID(hex=parts[1])
    except ValueError:
        raise KeyRefused("has not the form of a key") from None
    return key_id, digest_of(parts[2])


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What of a request its handler's machinery needs: see `http.py`."""

    request_id: str
    principal: Principal | None
    method: str
    path: str
    idempotency_key: str | None = None
    body_digest: bytes | None = None
    if_match: str | None = None

    @property
    def scope(self) -> Scope:
        """As what this request's transactions run."""
        return self.principal.scope if self.principal else NOBODY


people_told_of: ContextVar[set[UUID] | None] = ContextVar("people_told_of", default=None)
"""Whom the answer in the making tells of, for the audit log; the web sets it for each request."""


def tell_of(*person_ids: UUID | None) -> None:
    """Say that the answer tells of somebody whose id does not stand in it."""
    told = people_told_of.get()
    if told is not None:
        told.update(one for one in person_ids if one is not None)


class Keyring:
    """The process's secrets: seals what must be read again, signs what must come back unchanged."""

    def __init__(self) -> None:
        self._box: Fernet | None = None
        self._signing = b""
        self._attesting = b""

    def open(self, secret_key: str) -> None:
        """Derive a sealing and a signing key from the operator's secret."""
        if len(secret_key) < 32:
            raise SettingInvalid("SECRET_KEY", "*" * len(secret_key), "32 characters or more")
        master = secret_key.encode()
        sealing = hmac.digest(master, b"stumpwork sealing", "sha256")
        self._signing = hmac.digest(master, b"stumpwork signing", "sha256")
        self._attesting = hmac.digest(master, b"stumpwork attesting", "sha256")
        self._box = Fernet(base64.urlsafe_b64encode(sealing))

    def seal(self, plain: bytes) -> bytes:
        """Encrypt and authenticate."""
        return self._opened().encrypt(plain)

    def unseal(self, sealed: bytes) -> bytes:
        """What was sealed; a changed or foreign text raises `cryptography.fernet.InvalidToken`."""
        return self._opened().decrypt(sealed)

    def sign(self, message: bytes) -> bytes:
        """HMAC-SHA256 of a message."""
        self._opened()
        return hmac.digest(self._signing, message, "sha256")

    def matches(self, message: bytes, signature: bytes) -> bool:
        """Whether a signature, whole or cut to its first bytes (12 at least), is this message's."""
        full = self.sign(message)
        return len(signature) >= 12 and hmac.compare_digest(full[: len(signature)], signature)

    def attestation_seed(self) -> bytes:
        """The private half of the key that attestations are signed with."""
        self._opened()
        return self._attesting

    def _opened(self) -> Fernet:
        if self._box is None:
            raise RuntimeError("the keyring is not open: call keyring.open(secret_key) first")
        return self._box


keyring = Keyring()
"""The process's keyring; closed until its entry point opens it."""
