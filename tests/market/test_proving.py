"""The proof of the day: breaks that people end, and entries that a lab can check by itself."""

import pytest
from sqlalchemy import select, text

from market.auth import Part
from market.books.jobs import prove_books
from market.books.rules import BreaksOverdue, ProofsBroken
from market.db import database
from market.events import Event
from payouts import chart
from payouts.ledger_models import JournalEntry
from payouts.proofs import Inclusion, verify_inclusion
from tests.market.house import House


def test_a_lab_checks_its_own_entry_and_nobody_elses(house: House) -> None:
    lab, other, ops = house.caller(Part.LAB), house.caller(Part.LAB), house.caller(Part.OPS)
    house.fund(lab, 80_000)
    house.hear()
    with house.begin() as session:
        entry_id = session.scalars(select(JournalEntry.id)).first()
    assert entry_id is not None
    address = f"/v1/ledger/entries/led_{entry_id.hex}/proof"
    assert lab.get(address).status_code == 404
    asked = ops.post("/v1/reconciliations")
    assert asked.status_code == 202
    house.react()
    assert len(house.events(Event.PROOF_PUBLISHED)) == 1
    shown = lab.get(address).json()
    published = lab.get(f"/v1/proofs/{shown['proof_number']}").json()
    assert published["digest"] == shown["proof_digest"]
    path = Inclusion(
        shown["proof_number"],
        shown["entry"],
        shown["sealed"],
        shown["index"],
        shown["size"],
        tuple(shown["path"]),
        shown["root"],
    )
    assert verify_inclusion(published["document"], published["digest"], path) == []
    assert other.get(address).status_code == 404
    assert other.get("/v1/proofs").json() == [published]
    assert other.get("/v1/proofs/99").status_code == 404


def test_ops_end_a_break_and_it_stays_ended(house: House) -> None:
    ops = house.caller(Part.OPS)
    house.post(chart.stripe_clearing(), chart.suspense(), 700, "by hand")
    prove_books("now")
    (found,) = ops.get("/v1/breaks").json()["items"]
    assert (found["kind"], found["ours_minor"], found["age_hours"]) == ("ours_not_theirs", 700, 0)
    address = f"/v1/breaks/{found['id']}"
    taken = ops.post(f"{address}/assignment").json()
    assert taken["assigned_to"] == f"per_{ops.person_id.hex}"
    for body, code in (
        ({"how": "forget", "note": "It is nothing at all."}, "resolution_unknown"),
        ({"how": "explained", "note": "because"}, "explanation_missing"),
    ):
        refused = ops.post(f"{address}/end", json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    body = {"how": "suspense", "note": "An entry that a person made by mistake."}
    assert ops.post(f"{address}/end", json=body).json()["resolution"] == "suspense"
    assert ops.post(f"{address}/end", json=body).status_code == 404
    prove_books("now")
    assert ops.get("/v1/breaks").json()["items"] == []
    assert len(ops.get("/v1/breaks?is_open=false").json()["items"]) == 1


def test_an_old_break_and_changed_books_fail_the_job_of_the_day(house: House) -> None:
    house.post(chart.stripe_clearing(), chart.suspense(), 700, "by hand")
    prove_books("now")
    with house.begin() as session:
        session.execute(
            text("update payouts.reconciliation_break set found_at = found_at - interval '2 days'")
        )
    with pytest.raises(BreaksOverdue):
        prove_books("now")
    off, on = (f"alter table payouts.proof {way} trigger user" for way in ("disable", "enable"))
    change = "update payouts.proof set document = document || %s where number = 1"
    for added in (" ", ""):
        with database.engine.begin() as owner:
            owner.execute(text(off))
            owner.exec_driver_sql(change, (added,))
            if not added:
                owner.execute(text("update payouts.proof set document = rtrim(document)"))
            owner.execute(text(on))
        with pytest.raises(ProofsBroken if added else BreaksOverdue):
            prove_books("now")


def test_ops_send_our_own_money_and_no_one_elses(house: House) -> None:
    lab, ops = house.caller(Part.LAB), house.caller(Part.OPS)
    house.fund(lab, 80_000)
    house.hear()
    assert lab.organisation_id is not None
    house.post(chart.lab_funding(lab.organisation_id), chart.platform_fee(), 8_000, "fee")
    body = {"amount": {"amount_minor": 8_001, "currency": "USD"}}
    refused = ops.post("/v1/platform-payouts", json=body, headers={"Idempotency-Key": "a"})
    assert (refused.status_code, refused.json()["code"]) == (409, "own_money_short")
    body["amount"]["amount_minor"] = int(refused.json()["own_minor"])
    made = ops.post("/v1/platform-payouts", json=body, headers={"Idempotency-Key": "b"})
    assert made.status_code == 201
    house.hear()
    (paid,) = ops.get("/v1/platform-payouts").json()["items"]
    assert (paid["state"], paid["amount"]) == ("paid", body["amount"])
