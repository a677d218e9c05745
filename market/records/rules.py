"""What is kept about a person and where; what an attestation says, and how it is signed; pure.

`SOURCES` lists every table with rows about a person, `OTHERS` every table that names people and is
not about them, each with the reason. A test compares both with the tables that there are, so that
nothing can be kept about a person that it cannot download.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from market.errors import MarketError

RECORD_VERSION = 1
ATTESTATION_TYPE = "stumpwork-attestation-1"


@dataclass(frozen=True, slots=True)
class Source:
    """Rows about a person: of which table, found how, without which columns.

    `without` are columns that name or belong to somebody else, or that open something.
    """

    kind: str
    table: str
    where: str
    without: tuple[str, ...] = ()
    order: str = "id"


def _own(
    kind: str,
    column: str,
    *without: str,
    table: str = "",
    order: str = "id",
    also: str = "",
) -> Source:
    name = table or f"market.{kind}"
    condition = f"{column} = :person{' and ' + also if also else ''}"
    return Source(kind, name, condition, without, order)


def _money(kind: str, *without: str) -> Source:
    return _own(kind, "owner_id", *without, table=f"payouts.{kind}")


SOURCES: tuple[Source, ...] = (
    _own("person", "id"),
    _own("membership", "person_id"),
    Source(
        "api_key",
        "market.api_key",
        "membership_id in (select id from market.membership where person_id = :person)",
        ("digest",),
    ),
    Source(
        "visit",
        "market.visit",
        "key_id in (select k.id from market.api_key k join market.membership m"
        " on m.id = k.membership_id where m.person_id = :person)",
        ("digest",),
        "began_at",
    ),
    _own("identity_claim", "person_id", order="at"),
    _own("expert", "id", "words"),
    _own("expert_domain", "expert_id", order="domain"),
    _own("tier_assignment", "expert_id", "actor_id"),
    _own("departure", "expert_id", "begun_by"),
    _own("measure", "expert_id", "taken_by", "ended_by"),
    # What a rule of quality saw, and what the person was told of it.
    _own("rule_firing", "expert_id", order="at"),
    _own("eval_answer", "person_id"),
    _own("qualification", "person_id", "invited_by", "decided_by"),
    _own("admission", "person_id", "decided_by"),
    # The seed would tell which items come next.
    _own("sitting", "person_id", "seed"),
    Source(
        "sitting_item",
        "market.sitting_item",
        "sitting_id in (select id from market.sitting where person_id = :person)",
        (),
        "sitting_id",
    ),
    _own("regrade", "person_id"),
    _own("item_flag", "person_id", "decided_by"),
    _own("ability", "expert_id", order="domain"),
    # Every outcome that was learned from, with what was expected of the person before it.
    _own("observation", "expert_id", order="seq"),
    _own("expert_impact", "expert_id", order="domain"),
    _own("item_credit", "expert_id", "signature", "like_submission_id", order="decided_at"),
    _own("spread_alarm", "expert_id"),
    _own("lift_effect", "expert_id"),
    _own("lift_item", "expert_id", order="batch_id"),
    _own("reviewer_reliability", "reviewer_id", order="domain"),
    _own("vote_merit", "reviewer_id", order="at"),
    _own("reviewer_alarm", "reviewer_id"),
    _own("experiment_exposure", "unit_id"),
    _own("experiment_past", "unit_id", order="experiment_id"),
    _own("interest", "expert_id", order="stated_at"),
    _own("offer", "expert_id"),
    _own("work_session", "expert_id"),
    _own("time_entry", "expert_id"),
    _own("attempt", "expert_id"),
    _own("attempt_response", "expert_id", "request", "raw", order="at"),
    _own("return_request", "expert_id", "asked_by"),
    _own("task_skip", "expert_id", order="at"),
    _own("submission", "expert_id"),
    _own("submission_edit", "expert_id"),
    # Of fixes each side reads what it made or, once it is decided, what was made of its work, not
    # the other's name.
    _own(
        "fix_of_own_work",
        "author_id",
        "corrector_id",
        table="market.submission_fix",
        also="state <> 'proposed' and exists (select from market.verdict v"
        " where v.submission_id = submission_fix.submission_id)",
    ),
    _own("own_fix", "corrector_id", "author_id", table="market.submission_fix"),
    # Of votes on one's work the reviewer stays unknown, and they are there when it is decided.
    Source(
        "vote_on_own_work",
        "market.review",
        "expert_id = :person and exists (select from market.verdict v"
        " where v.submission_id = review.submission_id)",
        ("reviewer_id", "reserved_for"),
    ),
    _own("verdict", "expert_id", order="decided_at"),
    # Of one's own reviews the author stays unknown.
    Source("own_review", "market.review", "reviewer_id = :person", ("expert_id", "reserved_for")),
    Source(
        "thread",
        "market.thread",
        "opened_by = :person or author_id = :person and 'author' = any (sides)",
        ("opened_by", "author_id"),
    ),
    _own("remark", "person_id"),
    _own("attestation", "person_id"),
    _own("appeal", "person_id", "decider_id", "involved"),
    _own("dispute", "expert_id", "opened_by", "responded_by", "decided_by", "final_by"),
    _own("fraud_case", "expert_id", "opened_by", "answer_by", "decided_by", "final_by"),
    _own("recovery_case", "expert_id", "opened_by", "answer_by", "decided_by"),
    _own("bonus", "expert_id", "given_by"),
    _own("earning", "expert_id"),
    _money("payee"),
    _money("payout"),
    _money("payout_move", "actor_id"),
    _money("payout_hold", "placed_by", "cleared_by"),
    _money("transfer"),
    _money("conversion"),
    _money("recovery", "decided_by"),
    _own("notice_preference", "person_id", order="next_digest_at"),
    _own("notification", "person_id"),
    _own("letter", "person_id"),
    _own("event", "person_id", "actor_id"),
    # Who was told of the person; which member of ops or of a lab is kept in the log alone.
    Source(
        "look",
        "market.audit_entry",
        "people @> array[:person]::uuid[] and actor_id <> :person",
        ("actor_id", "key_id", "people", "path", "query"),
    ),
)

OTHERS: Mapping[str, str] = MappingProxyType(
    {
        "market.audit_link": "digests over the audit log",
        "market.gold_check": "which tasks were hidden checks: who knows them is checked no more;"
        " the tasks, their verdicts and what was learned of them stand with all others",
        "market.state_change": "moves of machines; whose subject a person may see, it reads there",
        "market.message_copy": "each copy is the notification beside it",
        "market.policy": "what ops wrote, in the part of ops",
        "market.experiment": "what ops wrote; whom it touched is an exposure",
        "market.quality_rule": "what ops wrote; whom it caught is a firing",
        "market.rule_simulation": "counts of people, none of them named",
        "market.baseline_result": "counts of people, none of them named",
        "market.acknowledgement": "what ops noted about an alarm of the service",
        "payouts.ledger_account": "where money is; what is owed and paid is earnings and payouts",
    }
)
"""Tables that name people and are not downloaded by them, and why. A column that only says which
member of ops or of a lab did something (`..._by`, `actor_id`) makes no table one about a person.
"""

PREFIXES: Mapping[str, str] = MappingProxyType(
    {
        "person_id": "per",
        "expert_id": "per",
        "reviewer_id": "per",
        "owner_id": "per",
        "organisation_id": "org",
        "project_id": "prj",
        "task_id": "tsk",
        "offer_id": "ofr",
        "submission_id": "sub",
        "attempt_id": "att",
        "session_id": "ses",
        "payout_id": "pay",
        "earning_id": "ear",
        "dispute_id": "dsp",
        "thread_id": "thr",
        "qualification_id": "qua",
        "sitting_id": "sit",
        "review_id": "rev",
    }
)
"""By which prefix the ids in a record travel elsewhere too; others stay as they are kept."""

DECIDED_BY: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "skill": ("expert_domain", "ability"),
        "years": ("expert_domain", "years"),
        "level": ("expert_domain", "level"),
        "domains": ("expert_domain", "domain"),
        "degree": ("expert", "degrees"),
        "institution": ("expert", "degrees"),
        "licences": ("expert", "licences"),
        "country": ("expert", "country"),
        "timezone": ("expert", "timezone"),
        "languages": ("expert", "languages"),
        "weekly_hours": ("expert", "weekly_hours"),
        "max_concurrent": ("expert", "max_concurrent"),
        "standing": ("expert", "state"),
        "tier": ("tier_assignment", "tier"),
        "completed": ("offer", "state"),
        "days_here": ("expert", "created_at"),
    }
)
"""Where in a record each field stands that eligibility, routing and cohorts can ask of a person."""


@dataclass(frozen=True, slots=True)
class Skill:
    """A domain in which a person was tested and granted, and its accepted work in it.

    Units: score in per cent of the test.
    """

    domain: str
    qualification_id: str
    granted_at: str
    ends_at: str
    score: int | None
    accepted: int
    stumps: int


class AttestationRefused(MarketError):
    """A text that is no attestation of ours, or not as we signed it."""

    def __init__(self, why: str) -> None:
        super().__init__(f"this is not an attestation as it was signed: {why}")
        self.why = why


class NothingVerified(MarketError):
    """An attestation of skills none of which is verified."""

    def __init__(self) -> None:
        super().__init__("no skill of yours is verified yet; see /v1/sittings for tests")


def canonical(document: Mapping[str, object]) -> str:
    """One text for one content: names in order, no blanks, and no number but whole ones.

    Source: RFC 8785 (JSON canonicalization), of which documents without fractions need no more.
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def key_id_of(public: bytes) -> str:
    """The name of a key: what it is, in short."""
    return hashlib.sha256(public).hexdigest()[:16]


def sign(seed: bytes, text: str) -> str:
    """An Ed25519 signature over a text, in base64. Source: RFC 8032."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    return base64.b64encode(private.sign(text.encode())).decode()


def public_of(seed: bytes) -> bytes:
    """The public half of a signing key."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def verified(document: str, signature: str, keys: Mapping[str, bytes]) -> dict[str, Any]:
    """What an attestation says, once it is certain that the holder of one of the keys signed it.

    Needs no database and no trust: whoever has the published keys can do it.

    Raises:
        AttestationRefused.
    """
    try:
        said = json.loads(document)
    except ValueError:
        raise AttestationRefused("its document is no JSON") from None
    if not isinstance(said, dict) or said.get("type") != ATTESTATION_TYPE:
        raise AttestationRefused("its document is of another type")
    public = keys.get(str(said.get("key_id")))
    if public is None:
        raise AttestationRefused("it names a key that was never published")
    try:
        raw = base64.b64decode(signature, validate=True)
        Ed25519PublicKey.from_public_bytes(public).verify(raw, document.encode())
    except (ValueError, InvalidSignature):
        raise AttestationRefused("the signature does not fit the document") from None
    return said


def attestation(
    *,
    issuer: str,
    key_id: str,
    attestation_id: str,
    person_id: str,
    name: str,
    issued_at: str,
    skills: Sequence[Skill],
) -> dict[str, object]:
    """What an attestation says.

    Raises:
        NothingVerified.
    """
    if not skills:
        raise NothingVerified()
    return {
        "type": ATTESTATION_TYPE,
        "id": attestation_id,
        "issuer": issuer,
        "key_id": key_id,
        "issued_at": issued_at,
        "person": {"id": person_id, "name": name},
        "skills": [
            {
                "domain": one.domain,
                "qualification_id": one.qualification_id,
                "granted_at": one.granted_at,
                "ends_at": one.ends_at,
                "score": one.score,
                "accepted": one.accepted,
                "stumps": one.stumps,
            }
            for one in skills
        ],
    }
