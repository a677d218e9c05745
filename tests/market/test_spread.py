"""A set of accepted work that is one item many times, though each item passed."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from market.auth import Part
from market.events import Event, EventRow
from market.impact.actions import credit_item, watch_spread
from market.impact.queries import projects_credited
from market.impact.rules import LEAST_SET, CreditedItem, SetFlag, spread_of
from market.projects.models import Project
from market.verdicts.models import Verdict
from matching.duplicates import shingles, signatures
from tests.factories import AT, make_caller, make_expert, make_project
from tests.market.reviewed import LATER, make_decided
from tests.market.test_console import check_guards, come_in, visit
from tests.market.test_console_sides import key_of_lab
from tests.matching.test_set_spread import written

POEM = (
    "The harbour keeps the winter in its stone, and {} keeps a lantern for the boats; the salt"
    " is older than the town, the town is older than the bell, and nobody who waits is alone."
)
NAMES = [
    first + last for first in ("Ada", "Ben", "Gro", "Ida") for last in ("mar", "lin", "tor", "vik")
]
ONE, OTHER = UUID(int=1), UUID(int=2)


def items(texts: Sequence[str], expert_id: UUID) -> list[CreditedItem]:
    """Accepted work of one expert with these texts."""
    table = signatures([shingles(text) for text in texts])
    return [
        CreditedItem(UUID(int=expert_id.int << 64 | n), expert_id, row.tobytes())
        for n, row in enumerate(table)
    ]


def test_two_hundred_poems_that_are_near_the_same_are_flagged_though_each_passes() -> None:
    same = [POEM.format(f"{NAMES[n % 16]} {NAMES[n // 16]}") for n in range(200)]
    copies, apart = items(same, ONE), items([written(seed) for seed in range(200)], OTHER)
    found = spread_of(copies).whole
    assert found.flags == (SetFlag.ALIKE, SetFlag.COPIES)
    assert found.spread is not None
    assert found.spread < 0.25
    assert [len(group) for group in found.groups] == [200]
    # The first of a group is what was there before its copies.
    assert found.groups[0][0] == copies[0].submission_id
    assert "199 of 200 are near-copies" in found.reason
    whole = spread_of(apart).whole
    assert whole.spread is not None
    assert whole.spread > 0.5
    assert (whole.flags, whole.groups) == ((), ())
    both = spread_of([*apart, *copies])
    # All together are unlike on average: the copies are what tells.
    assert both.whole.flags == (SetFlag.COPIES,)
    told = {expert_id: part.flags for expert_id, part in both.experts}
    assert told == {ONE: (SetFlag.ALIKE, SetFlag.COPIES), OTHER: ()}


def test_too_few_items_and_items_without_words_are_not_told_of() -> None:
    found = spread_of(items([POEM.format("Ada")] * (LEAST_SET - 1) + [""] * 20, ONE))
    assert found.whole.items == LEAST_SET - 1
    assert (found.whole.spread, found.whole.copies, found.whole.flags) == (None, None, ())
    assert f"told of {LEAST_SET} or more" in found.whole.reason
    nothing = spread_of([])
    assert (nothing.whole.items, nothing.experts) == (0, ())


def test_one_repetition_in_a_small_set_is_no_flag() -> None:
    texts = [written(seed) for seed in range(LEAST_SET - 1)]
    found = spread_of(items([*texts, texts[0]], ONE)).whole
    assert found.copies is not None
    assert found.copies.part == 1
    assert found.flags == ()


def deliver(db: Session, project: Project, expert_id: UUID, texts: Sequence[str]) -> list[UUID]:
    """Let an expert's work be accepted and credited, a piece for each text."""
    made = []
    for text in texts:
        (handed,) = make_decided(db, project, expert_id, True, payload={"poem": text})
        assert credit_item(db, handed.id, at=LATER)
        made.append(handed.id)
    return made


def test_a_lab_reads_that_its_set_is_one_poem_many_times_and_whose(
    db: Session, web: TestClient[Any]
) -> None:
    project = make_project(db, budget_minor=10**9)
    one, other = make_expert(db).id, make_expert(db).id
    lab = key_of_lab(web, db, project)
    path = f"/v1/projects/prj_{project.id.hex}/spread"
    thin = lab.get(path).json()
    assert (thin["items"], thin["spread"], thin["copies"], thin["experts"]) == (0, None, None, [])
    poems = deliver(db, project, one, [POEM.format(name) for name in NAMES[:12]])
    deliver(db, project, other, [written(seed) for seed in range(4)])
    (rejected,) = make_decided(db, project, other, False, payload={"poem": POEM.format("Zoe")})
    credit_item(db, rejected.id, at=LATER)
    db.commit()
    told = lab.get(path).json()
    assert (told["items"], told["flags"]) == (16, ["near_copies"])
    assert told["copies"]["part"] == 11
    assert told["groups"] == [{"items": 12, "submission_ids": [f"sub_{i.hex}" for i in poems]}]
    mine, theirs = told["experts"]
    assert (mine["expert_id"], mine["flags"]) == (f"per_{one.hex}", ["alike", "near_copies"])
    assert mine["spread"] < 0.5 < told["spread"]
    assert (theirs["items"], theirs["spread"]) == (4, None)
    assert theirs["reason"] == "4 accepted items with words; a spread is told of 10 or more."
    come_in(web, lab)
    page = web.get(f"/console/lab/projects/prj_{project.id.hex}/stump-rate")
    check_guards(page)
    assert "11 of 16 are near-copies of an earlier item" in page.text
    assert f"per_{one.hex}" in page.text
    visit(web, db, Part.LAB)
    assert make_caller(db, web, Part.LAB).get(path).status_code == 404


def test_a_set_that_is_alike_is_told_once_until_it_is_so_no_more(
    db: Session, web: TestClient[Any]
) -> None:
    project = make_project(db, budget_minor=10**9)
    poet = make_expert(db).id
    path = f"/v1/projects/prj_{project.id.hex}/spread"
    lab = key_of_lab(web, db, project)
    deliver(db, project, poet, [written(seed) for seed in range(10)])
    assert projects_credited(db, since=AT - timedelta(days=30)) == [project.id]
    assert projects_credited(db, since=AT + timedelta(days=30)) == []
    assert watch_spread(db, project.id, at=LATER) == 0
    assert lab.get(path).json()["alarmed_at"] is None
    poems = deliver(db, project, poet, [POEM.format(name) for name in NAMES[:8]])
    # Of the whole set, and of the one expert's part of it.
    assert watch_spread(db, project.id, at=LATER) == 2
    assert watch_spread(db, project.id, at=LATER + timedelta(hours=1)) == 0
    told = db.scalars(
        select(EventRow).where(EventRow.type == Event.QUALITY_ALERT.value).order_by(EventRow.id)
    ).all()
    whole, part = told
    assert (whole.organisation_id, whole.person_id) == (project.organisation_id, None)
    assert whole.data["kind"] == "spread"
    assert "7 of 18 are near-copies of an earlier item" in whole.data["reason"]
    assert (part.person_id, part.data["expert_id"]) == (poet, f"per_{poet.hex}")
    db.commit()
    seen = lab.get(path).json()
    assert seen["alarmed_at"] == seen["experts"][0]["alarmed_at"] is not None

    ops = make_caller(db, web, Part.OPS)
    listed = ops.get("/v1/alarms", params={"is_open": True}).json()
    assert [(one["kind"], one["project_id"], one["target_model_id"]) for one in listed] == [
        ("spread", f"prj_{project.id.hex}", None)
    ] * 2
    assert {one["person_id"] for one in listed} == {None, f"per_{poet.hex}"}
    for one in listed:
        noted = ops.post(f"/v1/alarms/{one['id']}/acknowledge", json={"note": "we wrote to them"})
        assert noted.json()["note"] == "we wrote to them"
    assert ops.get("/v1/alarms", params={"is_open": True}).json() == []
    visit(web, db, Part.OPS)
    page = web.get("/console/ops/signals/alarms?seen=true")
    check_guards(page)
    assert page.text.count("too alike") == 2

    # Copies that are accepted no more leave the set, and what comes after is told anew.
    taken = update(Verdict).where(Verdict.submission_id.in_(poems[1:]))
    db.execute(taken.values(is_accepted=False, share=0, version=Verdict.version + 1))
    assert watch_spread(db, project.id, at=LATER + timedelta(hours=2)) == 0
    assert lab.get(path).json()["alarmed_at"] is None
    ended = ops.get("/v1/alarms", params={"is_open": False}).json()
    assert all(one["ended_at"] is not None for one in ended)
    deliver(db, project, poet, [POEM.format(name) for name in NAMES[8:16]])
    assert watch_spread(db, project.id, at=LATER + timedelta(hours=3)) == 2


@pytest.mark.parametrize("part", [Part.EXPERT, Part.REVIEWER])
def test_a_set_is_no_expert_s_nor_reviewer_s_to_read(
    db: Session, web: TestClient[Any], part: Part
) -> None:
    project = make_project(db)
    found = make_caller(db, web, part).get(f"/v1/projects/prj_{project.id.hex}/spread")
    assert found.status_code in (403, 404)
