"""Pages about what a run's prices say, a pair's change of rank, and hours that a lab contests."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.disputes.models import Dispute
from market.earnings.models import Earning
from market.http import wire_id
from market.offers.actions import withdraw_offer
from market.offers.models import Offer
from market.people.models import Person
from market.policies.actions import publish_policy
from market.runs.actions import request_run
from market.runs.jobs import run_matching
from market.tasks.models import Task
from tests.factories import AT, make_expert
from tests.market.test_console import check_guards, send, token, visit
from tests.market.test_disputes import WORDS, make_credited
from tests.market.test_previews import drawn_run

Web = TestClient[Any]


def test_a_runs_prices_say_whom_to_recruit_and_which_budget_binds(
    web: Web, db: Session, react: Callable[[], list[str]]
) -> None:
    run = drawn_run(db)
    react()
    visit(web, db, Part.OPS)
    assert f"{run}/prices" in web.get(f"/console/ops/runs/{run}").text
    page = web.get(f"/console/ops/runs/{run}/prices")
    assert "Whom to recruit" in page.text
    assert "Chemistry" in page.text
    assert "is enough" in page.text
    assert "No seat stayed open for want of an expert." in page.text
    check_guards(page)
    assert web.get("/console/ops/runs/mrn_nothing/prices").status_code == 404
    unsolved, _ = request_run(db, seed=4, at=datetime.now(UTC))
    db.commit()
    early = web.get(f"/console/ops/runs/{wire_id('mrn', unsolved.id)}/prices")
    assert early.status_code == 409
    assert "That is not possible" in early.text


def test_a_pairs_change_of_rank_since_an_earlier_run_is_told_by_what_moved(
    web: Web, db: Session, react: Callable[[], list[str]]
) -> None:
    first = drawn_run(db)
    react()
    offer = db.scalars(select(Offer).order_by(Offer.id)).first()
    assert offer is not None
    task, person = db.get_one(Task, offer.task_id), db.get_one(Person, offer.expert_id)
    visit(web, db, Part.OPS)
    query = f"task={task.external_id}&expert={wire_id('per', person.id)}"
    alone = web.get(f"/console/ops/runs/{first}/why?{query}")
    assert "What the pair was worth" in alone.text
    assert "Change of rank" not in alone.text
    # What is taken back leaves the seats open, and the next run looks at the same pairs.
    for found in db.scalars(select(Offer).where(Offer.state == "pending")).all():
        withdraw_offer(db, found.id, reason="other", grace=timedelta(), at=datetime.now(UTC))
    weights = {"stump": 2.0, "affinity": 0.4}
    policy = publish_policy(
        db, name="drawn", document={"weights": weights}, reason="A test.", author_id=None, at=AT
    )
    later, _ = request_run(db, policy_id=policy.id, seed=4, at=datetime.now(UTC))
    db.commit()
    run_matching(str(later.id))
    run = wire_id("mrn", later.id)
    asked = web.get(f"/console/ops/runs/{run}/why?{query}&against={first}")
    assert asked.status_code == 200
    assert "The pair " in asked.text
    assert "By its weight" in asked.text
    check_guards(asked)
    other = make_expert(db)
    strange = f"task={task.external_id}&expert={wire_id('per', other.id)}"
    late = web.get(f"/console/ops/runs/{run}/why?{strange}&against={first}")
    assert "The run did not look at this pair" in late.text
    assert web.get(f"/console/ops/runs/{run}/why?{query}&against=mrn_no").status_code == 404


def test_a_lab_contests_hours_from_their_page_and_a_short_word_is_refused(
    web: Web, db: Session
) -> None:
    lab = visit(web, db, Part.LAB)
    offer = make_credited(db, organisation_id=lab.organisation_id)
    home = f"/console/lab/hours/{wire_id('ofr', offer.id)}/contest"
    assert home in web.get("/console/lab/hours").text
    page = web.get(home)
    check_guards(page)
    assert "What was recorded" in page.text
    csrf = token(web, home)
    given = {
        "starts_at": "2026-03-02T09:30:00",
        "ends_at": "2026-03-02T10:00:00",
        "reason_code": "idle",
        "statement": WORDS,
        "evidence": "a log",
    }
    for changes, said in (
        ({"statement": "No."}, "Say what is so in"),
        ({"starts_at": "soon"}, "a day and a time"),
        ({"reason_code": "mood"}, "not_on_task"),
        ({"ends_at": "2026-03-02T09:00:00"}, "The range"),
    ):
        refused = send(web, home, csrf, **{**given, **changes})
        assert refused.status_code in (409, 422), refused.text
        assert said in refused.text
        assert "a log" in refused.text
    done = send(web, home, csrf, **given)
    assert done.status_code == 303, done.text
    assert "Contested. That part of the pay waits" in web.get(done.headers["location"]).text
    made = db.scalars(select(Dispute)).one()
    assert (made.kind, made.claimed_s, made.state) == ("hours", 1800, "open")
    held = db.scalars(select(Earning).where(Earning.dispute_id == made.id)).one()
    assert (held.state, held.seconds) == ("disputed", 1800)
    # Another lab's hours are as if they were not there.
    visit(web, db, Part.LAB)
    assert web.get(home).status_code == 404
    assert send(web, home, token(web, "/console/lab"), **given).status_code == 404
