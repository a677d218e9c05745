"""Proofs of the books: a hashed statement a day, and the path that shows an entry to be in it.

A lab or an auditor needs no trust in us for the check: `verify_inclusion` is a pure function over
what they were handed, and each statement names the one before by its hash, so that none can be
changed or left out afterwards without every later one changing too.

Source: RFC 6962, section 2.1, for the tree, its leaves and its paths.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from payouts.errors import UnknownEntry
from payouts.ledger import trial_balance
from payouts.ledger_models import ChainLink, JournalEntry, Posting
from payouts.proof_models import Proof

NO_PROOF = "0" * 64
"""What the first statement names in the place of the one before."""

_DIGESTS = text(
    "select c.number, c.entry_id, encode(payouts.entry_digest(c.entry_id), 'hex')"
    " from payouts.chain_link c where c.number between :first and :last order by c.number"
)
_ONE_AT_A_TIME = text("select pg_advisory_xact_lock(hashtextextended('payouts.proof', 0))")


@dataclass(frozen=True, slots=True)
class Inclusion:
    """What somebody needs to check that an entry stands in a published statement.

    `entry` is the text of what may be read of it; `sealed` is the hash of the rest, such as the
    balances of both sides after it, which are nobody else's business.
    """

    proof_number: int
    entry: str
    sealed: str
    index: int
    size: int
    path: tuple[str, ...]
    root: str


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def leaf(entry: str, sealed: str) -> bytes:
    """The leaf of one entry: what may be read of it and the seal of the rest, hashed together."""
    return _hash(b"\x00", _hash(entry.encode()), bytes.fromhex(sealed))


def _split(size: int) -> int:
    """The largest power of two below a size."""
    return 1 << (size - 1).bit_length() - 1


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root over some leaves; of none, the hash of nothing."""
    if not leaves:
        return _hash(b"")
    level = list(leaves)
    # Pairs from the left, an odd one out carried up as it is: the same tree as RFC 6962's halves.
    while len(level) > 1:
        paired = [_hash(b"\x01", level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + ([level[-1]] if len(level) % 2 else [])
    return level[0]


def merkle_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The hashes that lead from one leaf to the root, nearest first."""
    if len(leaves) == 1:
        return ()
    half = _split(len(leaves))
    if index < half:
        return (*merkle_path(leaves[:half], index), merkle_root(leaves[half:]))
    return (*merkle_path(leaves[half:], index - half), merkle_root(leaves[:half]))


def root_by_path(found: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that a path leads to from a leaf; None when it is too long or too short.

    Source: RFC 9162, section 2.1.3.2, which RFC 6962 left to the reader.
    """
    if not 0 <= index < size:
        return None
    at, last = index, size - 1
    for step in path:
        if last == 0:
            return None
        if at % 2 == 1 or at == last:
            found = _hash(b"\x01", step, found)
            while at % 2 == 0 and at != 0:
                at //= 2
                last //= 2
        else:
            found = _hash(b"\x01", found, step)
        at //= 2
        last //= 2
    return found if last == 0 else None


def verify_inclusion(document: str, digest: str, shown: Inclusion) -> list[str]:
    """What is wrong with a statement and an entry that is said to be in it; nothing, if all holds.

    Needs no database and no trust: the caller brings the document, the digest as it was published,
    and what it was handed about the entry.
    """
    wrong = []
    if hashlib.sha256(document.encode()).hexdigest() != digest:
        wrong.append("the document is not the one that was published")
    stated = json.loads(document)
    if stated["number"] != shown.proof_number:
        wrong.append("the entry is said to be in another document")
    if stated["entries"]["count"] != shown.size:
        wrong.append("the document has another number of entries")
    path = [bytes.fromhex(one) for one in shown.path]
    root = root_by_path(leaf(shown.entry, shown.sealed), shown.index, shown.size, path)
    if root is None or root.hex() != stated["entries"]["root"]:
        wrong.append("the entry does not lead to the document's root")
    return wrong


def entry_text(entry: JournalEntry, postings: Sequence[Posting]) -> str:
    """What may be read of an entry by everybody whom it touches, in its one spelling."""
    return _canonical(
        {
            "id": str(entry.id),
            "key": entry.key,
            "kind": entry.kind,
            "phase": entry.phase,
            "at": entry.at.timestamp(),
            "memo": entry.memo,
            "lines": [
                {
                    "debit": str(one.debit_account_id),
                    "credit": str(one.credit_account_id),
                    "currency": one.currency,
                    "amount_minor": one.amount_minor,
                }
                for one in postings
            ],
        }
    )


def _canonical(value: Mapping[str, object]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class _Batch:
    entries: list[UUID]
    texts: list[str]
    seals: list[str]

    @property
    def leaves(self) -> list[bytes]:
        return [leaf(one, seal) for one, seal in zip(self.texts, self.seals, strict=True)]


def _batch(session: Session, first: int, last: int) -> _Batch:
    rows = session.execute(_DIGESTS, {"first": first, "last": last}).all()
    ids = [entry_id for _, entry_id, _ in rows]
    entries = {
        one.id: one for one in session.scalars(select(JournalEntry).where(JournalEntry.id.in_(ids)))
    }
    postings: dict[UUID, list[Posting]] = {one: [] for one in ids}
    for posting in session.scalars(
        select(Posting).where(Posting.entry_id.in_(ids)).order_by(Posting.entry_id, Posting.number)
    ):
        postings[posting.entry_id].append(posting)
    return _Batch(
        ids,
        [entry_text(entries[one], postings[one]) for one in ids],
        [seal for _, _, seal in rows],
    )


def latest_proof(session: Session) -> Proof | None:
    """The newest published statement."""
    return session.scalars(select(Proof).order_by(Proof.number.desc()).limit(1)).first()


def publish_proof(
    session: Session, *, at: datetime, stripe: Mapping[str, object], breaks: Mapping[str, object]
) -> Proof:
    """Publish a statement over every entry that the hash chain has taken in since the last one.

    `stripe` and `breaks` say what reconciliation found; they become part of the document.
    """
    session.execute(_ONE_AT_A_TIME)
    before = latest_proof(session)
    head = session.scalars(select(ChainLink).order_by(ChainLink.number.desc()).limit(1)).first()
    first = before.last_link + 1 if before else 1
    last = head.number if head else 0
    batch = _batch(session, first, last)
    number = before.number + 1 if before else 1
    document = _canonical(
        {
            "number": number,
            "at": at.isoformat(),
            "previous": before.digest if before else NO_PROOF,
            "entries": {
                "first": first,
                "last": last,
                "count": len(batch.entries),
                "root": merkle_root(batch.leaves).hex(),
                "chain_head": head.digest.hex() if head else NO_PROOF,
            },
            "balances": [
                {
                    "code": str(row.code),
                    "currency": row.currency,
                    "debit_minor": row.debit_minor,
                    "credit_minor": row.credit_minor,
                }
                for row in trial_balance(session)
            ],
            "stripe": dict(stripe),
            "breaks": dict(breaks),
        }
    )
    proof = Proof(
        number=number,
        at=at,
        first_link=first,
        last_link=last,
        document=document,
        digest=hashlib.sha256(document.encode()).hexdigest(),
    )
    session.add(proof)
    session.flush()
    return proof


def inclusion(session: Session, entry_id: UUID) -> Inclusion | None:
    """What shows that an entry stands in a statement; None while none has been published with it.

    Raises:
        UnknownEntry.
    """
    if session.get(JournalEntry, entry_id) is None:
        raise UnknownEntry(str(entry_id))
    link = session.scalars(select(ChainLink).where(ChainLink.entry_id == entry_id)).one_or_none()
    if link is None:
        return None
    proof = session.scalars(
        select(Proof).where(Proof.first_link <= link.number, Proof.last_link >= link.number)
    ).one_or_none()
    if proof is None:
        return None
    batch = _batch(session, proof.first_link, proof.last_link)
    index = batch.entries.index(entry_id)
    leaves = batch.leaves
    return Inclusion(
        proof_number=proof.number,
        entry=batch.texts[index],
        sealed=batch.seals[index],
        index=index,
        size=len(leaves),
        path=tuple(one.hex() for one in merkle_path(leaves, index)),
        root=merkle_root(leaves).hex(),
    )


def check_proofs(session: Session) -> list[str]:
    """What is wrong with the statements that were published: each against itself, the one before,
    the chain and the entries as they are now.
    """
    wrong = []
    before, expected = NO_PROOF, 1
    for proof in session.scalars(select(Proof).order_by(Proof.number)):
        stated = json.loads(proof.document)
        if hashlib.sha256(proof.document.encode()).hexdigest() != proof.digest:
            wrong.append(f"proof {proof.number}: the document has changed")
        if stated["previous"] != before or proof.number != expected:
            wrong.append(f"proof {proof.number}: does not follow the one before")
        batch = _batch(session, proof.first_link, proof.last_link)
        if merkle_root(batch.leaves).hex() != stated["entries"]["root"]:
            wrong.append(f"proof {proof.number}: the entries are not those that it was made of")
        before, expected = proof.digest, proof.number + 1
    return wrong
