"""Pages on which ops try policies: previews of past runs, searches, experiments and their end."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.console.experiment_told import guardrails_told, metric_told
from market.console.preview_told import figures_chart, figures_told
from market.experiments.models import Experiment, ExperimentLook
from market.experiments.rules import is_treated
from market.policies.actions import publish_policy
from market.policies.queries import default_policy
from market.previews.models import PolicyPreview
from tests.factories import AT, make_expert
from tests.market.test_console import check_guards, send, token, visit
from tests.market.test_previews import drawn_run

Web = TestClient[Any]
React = Callable[[], list[str]]
POLICIES = "/console/ops/policies"
PREVIEWS = f"{POLICIES}/previews"
EXPERIMENTS = f"{POLICIES}/experiments"


def version(db: Session, **document: Any) -> str:
    """A version that nobody obeys; its id as pages name it."""
    made = publish_policy(
        db, name="tried", document=document, reason="A trial.", author_id=None, at=AT
    )
    db.flush()
    return f"plc_{made.id.hex}"


def week(**more: str) -> dict[str, str]:
    """The fields of a form about the week that ends today."""
    today = datetime.now(UTC).date()
    return {"since": (today - timedelta(days=6)).isoformat(), "until": today.isoformat(), **more}


def effect(estimate: float, low: float | None, high: float | None, mean: float) -> dict[str, Any]:
    """An effect as a look keeps it."""
    return {
        "estimate": estimate,
        "low": low,
        "high": high,
        "p_value": 0.5,
        "control_mean": mean,
        "treated_mean": mean + estimate,
        "control_units": 40,
        "treated_units": 12,
        "control_assignments": 160,
        "treated_assignments": 48,
    }


# Previews -----------------------------------------------------------------------------------------


def test_a_version_is_previewed_on_past_runs_and_thin_overlap_is_said_in_words(
    web: Web, db: Session, react: React
) -> None:
    drawn_run(db)
    react()
    tried = version(db, weights={"stump": 2.0}, default_interest=0.5)
    visit(web, db, Part.OPS)
    asked = web.get(f"{PREVIEWS}?policy={tried}")
    assert f'<option value="{tried}" selected>' in asked.text
    answer = send(web, PREVIEWS, token(web, PREVIEWS), **week(policy=tried))
    assert answer.status_code == 303, answer.text
    path = answer.headers["location"]
    assert "Waiting for the solver" in web.get(path).text
    assert "preview_policy" in react()
    shown = web.get(path)
    check_guards(shown)
    for said in (
        "What cannot be told",
        "No outcome counts for it",
        "Who gains, who loses",
        "Seats filled",
    ):
        assert said in shown.text
    # Nothing is claimed of what would have come where the record is too thin.
    assert shown.text.count("too little to tell") >= 3
    for name in ("figures", "domains"):
        drawn = web.get(f"{path}/{name}.svg")
        assert drawn.headers["content-type"].startswith("image/svg+xml")
    assert web.get(f"{path}/choices.svg").status_code == 404
    assert "The plan fills" in web.get(PREVIEWS).text


def test_a_search_answers_with_choices_and_one_of_them_is_proposed(
    web: Web, db: Session, react: React
) -> None:
    drawn_run(db)
    react()
    visit(web, db, Part.OPS)
    fields = week(goal="95", evaluations="15", domain="chemistry")
    answer = send(web, f"{POLICIES}/searches", token(web, PREVIEWS), **fields)
    assert answer.status_code == 303, answer.text
    path = answer.headers["location"]
    react()
    assert "policies were tried" in web.get(path).text
    # Which choices a search finds is drawn by lot; the page is shown one that it might.
    row = db.scalars(select(PolicyPreview)).one()
    db.refresh(row)
    assert row.result is not None
    one = {
        **row.result["today"],
        "fill": 0.97,
        "meets": True,
        "is_today": False,
        "document": {"weights": {"urgency": 0.3}},
        "differences": ["Urgency counts 3 times as much."],
    }
    row.result = {**row.result, "reached": True, "choices": [one]}
    db.commit()
    shown = web.get(path)
    check_guards(shown)
    assert "reaches the goal" in shown.text
    assert web.get(f"{path}/choices.svg").status_code == 200
    (link,) = re.findall(r'href="([^"]+propose\?search[^"]+)"', shown.text)
    link = link.replace("&amp;", "&")
    form = web.get(link).text
    assert "of a search over" in form
    assert 'name="weights.urgency" inputmode="decimal" value="0.3"' in form
    assert web.get(link.replace("choice=0", "choice=9")).status_code == 404


def test_a_stretch_that_cannot_be_replayed_is_refused_and_the_form_keeps_what_was_typed(
    web: Web, db: Session
) -> None:
    visit(web, db, Part.OPS)
    tried = version(db, weights={"stump": 2.0})
    csrf = token(web, PREVIEWS)
    fields: dict[str, str]
    for fields, said in (
        ({}, "nothing to replay"),
        ({"since": "some day"}, "The first day is a day"),
        ({"until": "2020-01-01"}, "A stretch ends after it begins"),
    ):
        answer = send(web, PREVIEWS, csrf, **week(policy=tried) | fields)
        assert answer.status_code == 422
        assert said in answer.text
        assert f'<option value="{tried}" selected>' in answer.text
    search = send(web, f"{POLICIES}/searches", token(web, PREVIEWS), **week(goal="101"))
    assert search.status_code == 422
    assert "is a whole number from 0 to 100" in search.text
    assert 'value="101"' in search.text


def test_a_preview_that_could_not_be_made_says_why(web: Web, db: Session, react: React) -> None:
    drawn_run(db)
    react()
    nothing = dict.fromkeys(
        ("stump", "quality", "affinity", "learning", "cost", "concentration", "urgency"), 0.0
    )
    tried = version(db, weights={**nothing, "interest": 1.0})
    visit(web, db, Part.OPS)
    answer = send(web, PREVIEWS, token(web, PREVIEWS), **week(policy=tried))
    react()
    shown = web.get(answer.headers["location"]).text
    assert "is worth anything under this policy" in shown
    assert "data-refresh-s" not in shown
    assert "is worth anything under this policy" in web.get(PREVIEWS).text


def test_figures_are_told_side_by_side_with_intervals_and_which_way_they_go() -> None:
    spans = {
        "today": {"value": 0.5, "low": 0.4, "high": 0.6},
        "candidate": {"value": 0.7, "low": 0.6, "high": 0.8},
        "change": {"value": 0.2, "low": 0.1, "high": 0.3},
    }
    costs = {
        "today": {"value": 200.0, "low": 200.0, "high": 200.0},
        "candidate": {"value": 150.0, "low": 150.0, "high": 150.0},
        "change": {"value": -50.0, "low": -60.0, "high": 10.0},
    }
    result = {
        "refusal": None,
        "figures": [
            {"kind": "planned", "name": "fill", "unit": "share", **spans},
            {"kind": "realised", "name": "cost", "unit": "minor units", **costs},
        ],
    }
    fill, cost = figures_told(result, "USD")
    nbsp = "\u00a0"
    assert (fill.today, fill.verdict) == (f"50.0{nbsp}% (40.0{nbsp}% to 60.0{nbsp}%)", "more")
    assert fill.change == f"+20.0{nbsp}points (+10.0{nbsp}points to +30.0{nbsp}points)"
    assert (cost.today, cost.verdict) == (f"2.00{nbsp}USD", "unsure")
    assert cost.change == f"−0.50{nbsp}USD (−0.60{nbsp}USD to +0.10{nbsp}USD)"
    chart = figures_chart(result)
    assert [one.y for one in chart.series] == [(0.4,), (-0.25,)]
    thin = figures_told({**result, "refusal": "too few"}, "")
    assert [one.verdict for one in thin] == ["more", "too little to tell"]
    assert len(figures_chart({**result, "refusal": "too few"}).series) == 1


# Experiments --------------------------------------------------------------------------------------


def designed(web: Web, tried: str, **fields: str) -> httpx.Response:
    """Send the form that designs an experiment."""
    return send(
        web,
        f"{EXPERIMENTS}/new",
        token(web, f"{EXPERIMENTS}/new"),
        **{
            "name": "Chemistry waits less",
            "kind": "policy",
            "unit": "expert",
            "share": "20",
            "treated": tried,
            "metric": "accepted",
            "guard-wait_h": "yes",
            "reason": "Chemistry waits.",
            **fields,
        },
    )


def test_a_canary_is_designed_started_looked_at_promoted_and_taken_back(
    web: Web, db: Session
) -> None:
    for _ in range(30):
        make_expert(db)
    tried = version(db, weights={"urgency": 0.2})
    before = default_policy(db).policy_id
    visit(web, db, Part.OPS)
    assert f'<option value="{tried}" selected>' in web.get(f"{EXPERIMENTS}/new?policy={tried}").text
    answer = designed(web, tried)
    assert answer.status_code == 303, answer.text
    path = answer.headers["location"].partition("?")[0]
    shown = web.get(path)
    check_guards(shown)
    assert "It has not begun" in shown.text
    csrf = token(web, path)
    for move, said in (("start", "The next runs draw"), ("look", "intervals hold at all")):
        answer = send(web, f"{path}/{move}", csrf)
        assert answer.status_code == 303
        assert said in web.get(answer.headers["location"]).text
    assert "too early to tell" in web.get(path).text
    assert "too early to tell" in web.get(EXPERIMENTS).text
    assert send(web, f"{path}/start", csrf).status_code == 409
    assert send(web, f"{path}/dance", csrf).status_code == 404
    assert send(web, f"{path}/promote", csrf, note="It is better.").status_code == 303
    db.expire_all()
    assert default_policy(db).policy_id == UUID(tried[4:])
    assert "Return to the policy before" in web.get(path).text
    assert send(web, f"{POLICIES}/return", csrf).status_code == 303
    db.expire_all()
    assert default_policy(db).policy_id == before


def test_an_experiment_on_nobody_is_refused_in_words_and_dropped(web: Web, db: Session) -> None:
    visit(web, db, Part.OPS)
    tried = version(db, weights={"urgency": 0.2})
    path = designed(web, tried, scope='country = "CA"').headers["location"]
    path = path.partition("?")[0]
    assert "country = &#34;CA&#34;" in web.get(path).text
    csrf = token(web, path)
    refused = send(web, f"{path}/start", csrf)
    assert refused.status_code == 422
    assert "none of the 0 experts in scope" in refused.text
    assert send(web, f"{path}/drop", csrf, note="Nobody is there.").status_code == 303
    assert "Dropped" in web.get(path).text
    assert "dropped" in web.get(f"{EXPERIMENTS}?of=dropped").text


def test_a_design_that_does_not_fit_is_refused_and_the_form_keeps_what_was_typed(
    web: Web, db: Session
) -> None:
    visit(web, db, Part.OPS)
    tried = version(db, weights={"urgency": 0.2})
    fields: dict[str, str]
    for fields, said in (
        ({"share": "100"}, "Share: 1.0 is not a share"),
        ({"scope": "shoes > 40"}, "At character 1"),
        ({"share": "some"}, "The share is a number of per cent"),
        ({"share": "nan"}, "is not a share"),
        ({"treated": ""}, "Treated_policy_id"),
        ({"kind": "instructions", "treatment": "be brief"}, "is not a name and what it is"),
        ({"kind": "instructions"}, "Treatment: say what the treated get"),
        ({"kind": "pay", "treatment": "raise_basis_points: 500"}, "pay is tried by project"),
        ({"reason": " "}, "Reason"),
    ):
        answer = designed(web, tried, **fields)
        assert answer.status_code == 422
        assert said in answer.text
        assert 'value="Chemistry waits less"' in answer.text
        assert 'name="guard-wait_h" value="yes" checked' in answer.text
        assert 'name="guard-accepted" value="yes" checked' not in answer.text


def test_what_the_treated_get_is_kept_as_names_and_values(web: Web, db: Session) -> None:
    visit(web, db, Part.OPS)
    given = "tool: Editor: the new one\nversion: v3"
    answer = designed(web, "", kind="tool_version", treatment=given)
    assert answer.status_code == 303, answer.text
    made = db.scalars(select(Experiment)).one()
    assert made.treatment == {"tool": "Editor: the new one", "version": "v3"}
    assert "Editor: the new one" in web.get(answer.headers["location"]).text


def test_what_was_seen_of_an_experiment_stands_with_its_intervals_in_a_picture_and_a_table(
    web: Web, db: Session
) -> None:
    experts = [make_expert(db) for _ in range(20)]
    visit(web, db, Part.OPS)
    designed(web, version(db, weights={"urgency": 0.2}))
    made = db.scalars(select(Experiment)).one()
    for number in range(1, 4):
        db.add(
            ExperimentLook(
                experiment_id=made.id,
                number=number,
                at=AT + timedelta(hours=number),
                exposed=50 * number,
                decision="continue",
                reason="the interval still holds nought",
                effects={
                    "accepted": effect(0.1, 0.02 if number == 3 else -0.1, 0.2, 0.5),
                    "guard.wait_h": effect(1.0, 0.5, 1.5, 2.0),
                },
            )
        )
    db.commit()
    path = f"{EXPERIMENTS}/exp_{made.id.hex}"
    shown = web.get(path).text
    assert "better for sure" in shown
    assert "broken" in shown
    assert "+10.0\u00a0points" in shown
    treated = sum(is_treated(made.salt, one.id, made.share) for one in experts)
    assert f"{treated} expert" in shown
    for name in ("effect", "guardrails"):
        assert web.get(f"{path}/{name}.svg").headers["content-type"].startswith("image/svg+xml")
    assert web.get(f"{path}/none.svg").status_code == 404


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (None, None, "too early to tell"),
        (-0.3, -0.1, "better for sure"),
        (0.1, 0.3, "worse for sure"),
        (-0.1, 0.1, "no difference for sure yet"),
    ],
)
def test_less_of_what_is_unwanted_is_better(
    low: float | None, high: float | None, said: str
) -> None:
    told = metric_told("rejected", {"rejected": effect(0.0, low, high, 0.2)})
    assert told is not None
    assert told.verdict == said


@pytest.mark.parametrize(
    ("estimate", "low", "high", "said"),
    [
        (0.0, None, None, "too early to tell"),
        (0.5, 0.3, 0.7, "broken"),
        (0.1, -0.1, 0.3, "may still be worse"),
        (-0.5, -0.7, -0.3, "holds"),
    ],
)
def test_a_guardrail_holds_may_be_worse_or_is_broken(
    estimate: float, low: float | None, high: float | None, said: str
) -> None:
    (told,) = guardrails_told(["wait_h"], {"guard.wait_h": effect(estimate, low, high, 1.0)})
    assert told.verdict == said
