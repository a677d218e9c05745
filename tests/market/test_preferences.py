"""A project's preferences: their shape, what is left out, raw winners beside controlled ones."""

from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import new_id
from market.preferences.queries import preference_report
from market.preferences.rules import Preference, Response, preference_of, report_on
from market.submissions.models import Submission
from tests.factories import AT, make_caller, make_expert, make_project
from tests.market.reviewed import make_decided
from tests.market.test_console import come_in

PAIR = {"prompt": "Why?", "responses": ["Because.", "So."]}
ME = new_id()


@pytest.mark.parametrize(
    ("payload", "rank"),
    [
        (PAIR | {"choice": 1}, (1, 0)),
        (PAIR | {"choice": "tie"}, (0, 0)),
        (PAIR | {"ranking": [1, 0]}, (1, 0)),
        ({"responses": ["a", "b", "c"], "ranking": [2, 0, 1]}, (1, 2, 0)),
        ({"responses": [{"text": "a", "source": "m"}, "b"], "choice": 0}, (0, 1)),
        (PAIR, None),
        (PAIR | {"choice": 2}, None),
        (PAIR | {"choice": True}, None),
        (PAIR | {"choice": "first"}, None),
        (PAIR | {"choice": 0, "ranking": [0, 1]}, None),
        (PAIR | {"ranking": [0, 0]}, None),
        (PAIR | {"ranking": [0, "1"]}, None),
        (PAIR | {"ranking": "01"}, None),
        ({"responses": ["a"], "choice": 0}, None),
        ({"responses": "ab", "choice": 0}, None),
        ({"responses": ["a", 3], "choice": 0}, None),
        ({"responses": ["a", {"text": 3}], "choice": 0}, None),
        ({"responses": ["a", {"text": "b", "source": 3}], "choice": 0}, None),
    ],
)
def test_a_payload_is_a_preference_or_it_is_not(
    payload: dict[str, Any], rank: tuple[int, ...] | None
) -> None:
    found = preference_of(payload, rater_id=ME, recorded_s=40)
    assert (None if found is None else found.rank) == rank


@pytest.mark.parametrize(
    ("said", "recorded", "seconds"),
    [(30, 40, 30), (300, 40, 40), (-1, 40, 40), ("9", 40, 40), (True, 40, 40), (None, 40, 40)],
)
def test_seconds_that_a_rater_names_count_as_far_as_they_were_recorded(
    said: object, recorded: int, seconds: int
) -> None:
    payload = PAIR | {"choice": 0, "seconds": said}
    found = preference_of(payload, rater_id=ME, recorded_s=recorded)
    assert found is not None
    assert found.seconds == seconds


def test_markup_and_emoji_are_counted() -> None:
    dressed = (
        "# Title\n\n- **one**\n2. two\n```\nx\n```\nsee `y` \U0001f680\u2728\U0001f1e9\U0001f1ea"
    )
    assert Response(dressed).dress() == (len(dressed), 7, 4)
    assert Response("2 * 3 - 1 = 5. Plain, and 1. not a list").dress()[1:] == (0, 0)
    assert Response("").dress() == (0, 0, 0)


def voters(*, count: int, each: int, likes: float, seconds: int = 30) -> list[Preference]:
    """Preferences between a terse source that is better and one that says much."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(count):
        rater = new_id()
        for _ in range(each):
            terse, wordy = int(rng.integers(40, 200)), int(rng.integers(100, 600))
            z = 0.6 - likes * (wordy - terse) / (wordy + terse)
            first = bool(rng.uniform() < 1 / (1 + np.exp(-z)))
            both = (Response("a" * terse, "terse"), Response("b" * wordy, "wordy"))
            found.append(Preference(rater, seconds, both, (0, 1) if first else (1, 0)))
    return found


def test_five_hundred_voters_who_like_length_crown_the_wrong_one_until_it_is_held_equal() -> None:
    hasty = voters(count=50, each=1, likes=9.0, seconds=5)
    told = report_on([*voters(count=500, each=4, likes=3.0), *hasty], least_s=10)
    assert [one.source for one in told.raw] == ["wordy", "terse"]
    assert [one.source for one in told.controlled] == ["terse", "wordy"]
    length, markdown, emoji = told.bias
    assert length.is_biased
    assert length.p_value is not None
    assert length.p_value < 0.01
    assert length.effect > 0
    assert length.twice_chance > 0.6
    assert (markdown.p_value, markdown.twice_chance, emoji.is_biased) == (None, 0.5, False)
    assert (told.too_fast, told.raters, told.comparisons) == (50, 500, 2000)
    # Whoever does not mind length is not accused of it.
    fair = report_on(voters(count=200, each=4, likes=0.0), least_s=10)
    assert not fair.bias[0].is_biased
    assert fair.raw[0].source == fair.controlled[0].source == "terse"


def test_a_choice_of_three_says_nothing_of_the_two_that_lost_and_a_ranking_does() -> None:
    three = tuple(Response(one, one) for one in "abc")
    chosen = report_on([Preference(ME, 30, three, (0, 1, 1))], least_s=10)
    ranked = report_on([Preference(ME, 30, three, (0, 1, 2))], least_s=10)
    tied = report_on([Preference(ME, 30, three, (0, 0, 0))], least_s=10)
    assert (chosen.comparisons, ranked.comparisons, tied.comparisons) == (2, 3, 3)
    assert chosen.raw[1].worth == pytest.approx(chosen.raw[2].worth)
    assert [one.source for one in ranked.raw] == ["a", "b", "c"]
    assert tied.raw[0].worth == pytest.approx(0)
    nothing = report_on([], least_s=10)
    assert (nothing.raw, nothing.groups, nothing.comparisons) == ((), 0, 0)
    # Without sources there is nobody to crown, and style is still told.
    bare = report_on([Preference(ME, 30, (Response("long one"), Response("x")), (0, 1))], least_s=0)
    assert (bare.raw, bare.comparisons) == ((), 1)
    assert bare.bias[0].effect > 0


def test_a_lab_reads_the_preferences_that_were_accepted(db: Session, web: TestClient[Any]) -> None:
    lab = make_caller(db, web, Part.LAB)
    other = make_caller(db, web, Part.LAB)
    project = make_project(db, organisation_id=lab.organisation_id)
    sources = [{"text": "Because.", "source": "a"}, {"text": "So it is.", "source": "b"}]
    said: list[dict[str, Any]] = [
        {"responses": sources, "choice": 0},
        {"responses": sources, "ranking": [1, 0]},
        {"responses": sources, "choice": 7},
        {"answer": 42},
        {"responses": sources, "choice": 0},
    ]
    made = make_decided(db, project, make_expert(db).id, *(n < 4 for n in range(5)))
    for one, payload in zip(made, said, strict=True):
        one.payload = payload
        accept(db, one, "accepted" if one is not made[4] else "rejected")
    db.commit()
    path = f"/v1/projects/prj_{project.id.hex}/preferences"
    # Nobody recorded any time on them, so all are too fast, unless a lab says that this does.
    told = lab.get(path).json()
    assert (told["preferences"], told["too_fast"], told["unreadable"]) == (0, 2, 1)
    told = lab.get(path, params={"least_s": 0}).json()
    assert (told["preferences"], told["too_fast"], told["comparisons"]) == (2, 0, 2)
    assert {one["source"] for one in told["raw"]} == {"a", "b"}
    assert [one["feature"] for one in told["bias"]] == ["length", "markdown", "emoji"]
    assert told["raw"][0]["low"] is None
    come_in(web, lab)
    page = f"/console/lab/projects/prj_{project.id.hex}/preferences"
    assert "No preference was accepted yet." in web.get(page).text
    shown = web.get(page, params={"least_s": 0}).text
    assert "What dress alone does" in shown
    assert web.get(page, params={"least_s": -1}).status_code == 400
    web.cookies.clear()
    assert other.get(path).status_code == 404
    assert lab.get(path, params={"least_s": -1}).status_code == 400
    cut = preference_report(db, project.id, least_s=0, most=1)
    assert (cut.is_cut, cut.report.preferences + cut.unreadable) == (True, 1)


def test_more_than_can_be_counted_is_left_out_and_said() -> None:
    many = tuple(Response("x", f"s{n}") for n in range(50))
    one = Preference(ME, 30, many, tuple(range(50)))
    told = report_on([one] * 41, least_s=10)
    assert (told.comparisons, told.preferences, told.is_cut) == (40 * 1225, 40, True)
    other = Response("x", "t")
    pairs = [Preference(ME, 30, (Response("x", f"s{n}"), other), (0, 1)) for n in range(150)]
    few = report_on(pairs, least_s=10)
    assert (len(few.raw), few.is_cut, few.comparisons) == (100, False, 150)


def accept(db: Session, handed: Submission, state: str) -> None:
    for step in ("awaiting_review", "in_review", state):
        handed.state = step
        db.flush()
    assert handed.created_at >= AT
