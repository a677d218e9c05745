"""Published proofs of the books: what an outsider can check, and what nobody can change after."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from market.db import database
from payouts import chart
from payouts.ledger import Line, chain_entries, post_entry
from payouts.ledger_models import JournalEntry
from payouts.proof_models import Proof
from payouts.proofs import (
    check_proofs,
    inclusion,
    merkle_path,
    merkle_root,
    publish_proof,
    root_by_path,
    verify_inclusion,
)
from tests.payouts.scene import Scene

AT = datetime(2026, 11, 20, 4, tzinfo=UTC)


def post(session: Session, key: str, amount: int = 100) -> UUID:
    line = Line(chart.bank(), chart.platform_fee(), amount)
    return post_entry(session, key=key, kind="test", lines=[line], at=AT).id


def publish(session: Session) -> Proof:
    chain_entries(session)
    return publish_proof(session, at=AT, stripe={"USD": {"ours": 1}}, breaks={"open": 0})


@given(st.integers(1, 70), st.data())
def test_every_leaf_leads_to_the_root_and_no_other_does(size: int, data: st.DataObject) -> None:
    leaves = [hashlib.sha256(bytes([n])).digest() for n in range(size)]
    index = data.draw(st.integers(0, size - 1))
    path = merkle_path(leaves, index)
    root = merkle_root(leaves)
    assert root_by_path(leaves[index], index, size, path) == root
    assert root_by_path(b"\x00" * 32, index, size, path) != root
    assert root_by_path(leaves[index], index, size, (*path, root)) is None
    if path:
        assert root_by_path(leaves[index], index, size, path[:-1]) != root


@pytest.mark.parametrize(
    ("count", "root"),
    [
        (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
    ],
)
def test_the_tree_has_the_roots_that_its_source_says(count: int, root: str) -> None:
    """The published values of RFC 6962: the empty tree, and the leaf of an empty input."""
    leaves = [hashlib.sha256(b"\x00").digest()][:count]
    assert merkle_root(leaves).hex() == root


def test_an_entry_is_shown_to_be_in_a_statement_without_trusting_us(db: Session) -> None:
    entries = [post(db, f"e{n}", 100 + n) for n in range(7)]
    first = publish(db)
    entries.append(post(db, "later"))
    second = publish(db)
    for entry_id in entries:
        shown = inclusion(db, entry_id)
        assert shown is not None
        proof = first if shown.proof_number == 1 else second
        assert verify_inclusion(proof.document, proof.digest, shown) == []
        assert str(entry_id) in shown.entry
    assert json.loads(second.document)["previous"] == first.digest
    assert check_proofs(db) == []


def test_anything_that_was_changed_is_noticed(db: Session) -> None:
    entry_id = post(db, "one")
    post(db, "two")
    proof = publish(db)
    shown = inclusion(db, entry_id)
    assert shown is not None
    richer = replace(shown, entry=shown.entry.replace('"amount_minor":100', '"amount_minor":999'))
    assert richer.entry != shown.entry
    assert verify_inclusion(proof.document, proof.digest, richer) == [
        "the entry does not lead to the document's root"
    ]
    nicer = proof.document.replace('"open":0', '"open":1')
    assert verify_inclusion(nicer, proof.digest, shown) == [
        "the document is not the one that was published"
    ]


def test_what_an_entry_shows_holds_no_balance_of_anybody(db: Session) -> None:
    owner_id, lab_id = uuid4(), uuid4()
    fund = Line(chart.stripe_clearing(), chart.lab_funding(lab_id), 123_456)
    post_entry(db, key="f", kind="fund", lines=[fund], at=AT)
    line = Line(chart.lab_funding(lab_id), chart.owed_to(owner_id), 456)
    entry = post_entry(db, key="pay", kind="pay", lines=[line], at=AT)
    publish(db)
    shown = inclusion(db, entry.id)
    assert shown is not None
    assert "123000" not in shown.entry
    assert "balance" not in shown.entry


def test_an_entry_that_no_statement_holds_yet_has_no_proof(db: Session) -> None:
    entry_id = post(db, "early")
    assert inclusion(db, entry_id) is None


def test_a_changed_entry_breaks_every_statement_that_held_it(scene: Scene) -> None:
    with scene.begin() as session:
        post(session, "one")
        publish(session)
        assert check_proofs(session) == []
    forge = "update payouts.journal_entry set memo = %s where key = 'one'"
    for memo, wrong in (("forged", 1), ("", 0)):
        with database.engine.begin() as owner:
            owner.execute(text("alter table payouts.journal_entry disable trigger user"))
            owner.exec_driver_sql(forge, (memo,))
            owner.execute(text("alter table payouts.journal_entry enable trigger user"))
        with scene.begin() as session:
            assert len(check_proofs(session)) == wrong
    with scene.begin() as session:
        assert session.scalars(select(JournalEntry.key)).all() == ["one"]
