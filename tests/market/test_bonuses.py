"""Bonuses: a verdict for each row, once for each reference, never beyond the budget."""

import threading
from datetime import timedelta
from typing import Any

from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.bonuses.actions import give_bonus
from market.bonuses.rules import Wanted
from market.db import database, new_id
from market.earnings.models import Earning
from market.earnings.queries import unbacked_lines
from market.experts.actions import create_profile
from market.experts.rules import Profile
from payouts import chart
from payouts.invariants import violations
from payouts.ledger import balance
from tests.factories import AT, make_caller, make_expert, make_project, make_task
from tests.market.earned import make_active_offer


def test_each_row_has_its_verdict_and_a_reference_pays_once(
    db: Session, web: TestClient[Any]
) -> None:
    lab, me, other = (make_caller(db, web, part) for part in (Part.LAB, Part.EXPERT, Part.EXPERT))
    create_profile(db, me.person_id, Profile(), at=AT - timedelta(days=9), tier="T1")
    project = make_project(db, lab.organisation_id, budget_minor=60_000)
    make_active_offer(db, project, make_task(db, project), me.person_id)
    db.commit()
    path = f"/v1/projects/prj_{project.id.hex}/bonuses"

    def row(expert: Any, amount: int, reference: str, reason: str = "It found a new flaw.") -> Any:
        return {
            "expert_id": f"per_{expert.person_id.hex}",
            "amount_minor": amount,
            "reference": reference,
            "reason": reason,
        }

    def give(rows: list[Any], key: str, dry_run: bool = False) -> Any:
        return lab.post(
            path,
            json={"rows": rows, "dry_run": dry_run},
            headers={"Idempotency-Key": key},
        ).json()

    rows = [
        row(me, 12_000, "march-1"),
        row(other, 500, "march-2"),
        row(me, 0, "march-3"),
        row(me, 500, " "),
        row(me, 500, "march-5", "short"),
        row(me, 90_000, "march-6"),
    ]
    codes = [
        None,
        "not_on_project",
        "amount_invalid",
        "reference_blank",
        "reason_blank",
        "funds_short",
    ]
    tried = give(rows, "try", dry_run=True)
    assert [one["code"] for one in tried["rows"]] == codes
    assert (tried["given"], tried["amount_minor"], tried["fee_minor"]) == (0, 12_000, 2_400)
    assert db.scalars(select(Earning)).all() == []
    given = give(rows, "give")
    assert [one["code"] for one in given["rows"]] == codes
    assert (given["given"], given["refused"], given["fee_minor"]) == (1, 5, 2_400)
    again = give(rows[:1], "again")
    assert (again["given"], again["unchanged"]) == (0, 1)
    changed = give([row(me, 12_001, "march-1")], "changed")
    assert changed["rows"][0]["code"] == "reference_used"
    (line,) = me.get("/v1/earnings").json()["items"]
    assert (line["kind"], line["pay_minor"], line["state"]) == ("bonus", 12_000, "approved")
    assert balance(db, chart.owed_to(me.person_id)).available_minor == 12_000
    assert me.get("/v1/earnings.csv").text.count("bonus") == 1
    assert len(lab.get(path).json()["items"]) == 1
    stranger = make_caller(db, web, Part.LAB)
    body = {"rows": rows[:1]}
    refused = stranger.post(path, json=body, headers={"Idempotency-Key": "k"})
    assert refused.status_code == 404
    assert violations(db) == []
    assert unbacked_lines(db) == []


def test_a_dry_run_says_row_by_row_what_giving_would(db: Session, web: TestClient[Any]) -> None:
    lab, me = (make_caller(db, web, part) for part in (Part.LAB, Part.EXPERT))
    create_profile(db, me.person_id, Profile(), at=AT - timedelta(days=9), tier="T1")
    project = make_project(db, lab.organisation_id, budget_minor=32_000, cap_s=3600)
    make_active_offer(db, project, make_task(db, project), me.person_id)
    db.commit()
    amounts = (
        (10_000, "a"),
        (10_000, "b"),
        (10_000, "b"),
        (4_000, "a"),
        (9_999, "c"),
        (3_000, "d"),
    )
    rows = [
        {
            "expert_id": f"per_{me.person_id.hex}",
            "amount_minor": amount,
            "reference": reference,
            "reason": "It found a new flaw.",
        }
        for amount, reference in amounts
    ]

    def give(key: str, *, dry_run: bool) -> Any:
        return lab.post(
            f"/v1/projects/prj_{project.id.hex}/bonuses",
            json={"rows": rows, "dry_run": dry_run},
            headers={"Idempotency-Key": key},
        ).json()

    tried, given = give("try", dry_run=True), give("give", dry_run=False)
    told = [(one["verdict"].replace("would_give", "given"), one["code"]) for one in tried["rows"]]
    assert told == [(one["verdict"], one["code"]) for one in given["rows"]]
    assert [one["verdict"] for one in given["rows"][:3]] == ["given", "given", "unchanged"]
    codes = [one["code"] for one in given["rows"]]
    assert codes == [None, None, None, "reference_used", "funds_short", None]
    assert (tried["amount_minor"], tried["fee_minor"]) == (given["amount_minor"], 4_600)


def test_bonuses_and_offers_at_once_never_promise_more_than_was_funded(committed: str) -> None:
    """Funded is reserved, spent and free together at every moment that anybody can see."""
    del committed
    with database.begin() as session:
        expert = make_expert(session, at=AT - timedelta(days=30))
        project = make_project(session, budget_minor=30_000, cap_s=3600)
        tasks = [make_task(session, project) for _ in range(13)]
        make_active_offer(session, project, tasks[0], expert.id)
        experts = [make_expert(session, at=AT - timedelta(days=30)).id for _ in tasks]
    escrow = chart.project_budget(project.id, project.organisation_id)
    seen: list[int] = []
    verdicts: list[str] = []
    refused: list[str] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            with database.begin() as session:
                seen.append(balance(session, escrow).available_minor)

    def reward(number: int) -> None:
        wanted = Wanted(expert.id, 3_000, f"bonus {number}", "It found a new flaw.")
        with database.begin() as session:
            verdict = give_bonus(session, project, wanted, by=new_id(), at=AT)
        verdicts.append(verdict.verdict)

    def promise(number: int) -> None:
        from payouts.errors import FloorBreached

        try:
            with database.begin() as session:
                make_active_offer(session, project, tasks[number], experts[number])
        except FloorBreached:
            refused.append("offer")

    watcher = threading.Thread(target=watch)
    watcher.start()
    threads = [
        threading.Thread(target=target, args=(number,))
        for number in range(1, 13)
        for target in (reward, promise)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    assert min(seen) >= 0
    # More was asked for than there was, whoever came first, and nobody was refused while it lasted.
    assert len(refused) + len(verdicts) - verdicts.count("given") > 0
    with database.begin() as session:
        left = balance(session, escrow)
        assert left.posted_minor == 30_000 - 3_600 * verdicts.count("given")
        assert 0 <= left.available_minor == left.posted_minor - left.pending_debit_minor
        assert left.available_minor < 3_600
        assert violations(session) == []
        assert unbacked_lines(session) == []
