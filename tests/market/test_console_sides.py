"""Pages on which each side reads how it stands: forecasts, ability, stump rates, disputed time."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.disputes.models import Dispute
from market.inbox.models import NoticePreference
from market.offers.models import Offer
from market.people.actions import grant_part, make_key
from market.people.rules import scopes_of
from market.predictions.models import Observation
from market.projects.models import Project
from market.quality.models import FrontierAlarm
from tests.factories import Caller, make_caller
from tests.market.reviewed import STUMP, cast, hand_in
from tests.market.test_console import check_guards, come_in, offered, send, token, visit, visit_as

Web = TestClient[Any]
React = Callable[[], list[str]]
SAID = "The network was down for forty minutes; I went on by hand."


# What is known ------------------------------------------------------------------------------------


def test_each_side_reads_what_is_believed_after_a_verdict_and_nobody_elses(
    web: Web, db: Session, react: React
) -> None:
    handed = hand_in(db, reviews=1)
    cast(db, handed, STUMP)
    react()
    visit(web, db, Part.EXPERT)
    assert "Nothing is known yet" in web.get("/console/expert/ability").text
    visit_as(web, db, handed.expert_id)
    shown = web.get("/console/expert/ability")
    check_guards(shown)
    assert "It rests on 1 outcome of yours" in shown.text
    assert "What your latest items were worth" in shown.text
    assert "credit an item" in shown.text
    assert web.get("/console/expert/ability.svg").headers["content-type"].startswith("image/svg")
    seen = db.scalars(select(Observation)).one()
    project = db.get_one(Project, handed.project_id)
    assert project.target_model_id is not None
    db.add(
        FrontierAlarm(
            seq=seen.seq,
            domain="chemistry",
            level=2,
            target_model_id=project.target_model_id,
            at=seen.at,
            rate=0.05,
            opening=0.5,
            evidence=40.0,
            productive=0.0,
            low=0.0,
            high=1.0,
            reason="nobody stumps it at this level any more",
            proposed_level=4,
        )
    )
    visit(web, db, Part.OPS)
    forecasts = web.get("/console/ops/signals/calibration?days=36500")
    assert forecasts.status_code == 422
    forecasts = web.get("/console/ops/signals/calibration?days=3660")
    check_guards(forecasts)
    assert "1 forecasts, off by" in forecasts.text
    assert "Complexity 5: nobody stumps it at this level any more" in forecasts.text
    drawn = web.get("/console/ops/signals/calibration/stump.svg?days=3660")
    assert drawn.headers["content-type"].startswith("image/svg")
    assert web.get("/console/ops/signals/calibration/charm.svg").status_code == 404
    lab = key_of_lab(web, db, project)
    come_in(web, lab)
    base = f"/console/lab/projects/prj_{project.id.hex}/stump-rate"
    rate = web.get(base)
    check_guards(rate)
    assert "1 of 1; likely" in rate.text
    assert web.get(f"{base}.svg").headers["content-type"].startswith("image/svg")
    # Another lab's project is none.
    visit(web, db, Part.LAB)
    assert web.get(base).status_code == 404
    assert web.get(f"{base}.svg").status_code == 404


def key_of_lab(web: Web, db: Session, project: Project) -> Caller:
    """Somebody of the lab whose project it is."""
    person_id, at = make_caller(db, web, Part.EXPERT).person_id, datetime.now(UTC)
    part = grant_part(db, person_id, Part.LAB, organisation_id=project.organisation_id, at=at)
    scopes = scopes_of(Part.LAB)
    _, text_key = make_key(db, part, name="a key", scopes=scopes, days=30, at=at)
    db.commit()
    return Caller(web, text_key, person_id)


# How one is told ----------------------------------------------------------------------------------


def test_a_visitor_chooses_how_to_be_told_and_a_wrong_choice_is_refused_in_words(
    web: Web, db: Session
) -> None:
    me = visit(web, db, Part.EXPERT)
    path = "/console/inbox/preferences"
    shown = web.get(path)
    check_guards(shown)
    csrf = token(web, path)
    wanted = {"digest": "weekly", "hour": "7", "timezone": "Europe/Paris", "mail-pay": "never"}
    assert send(web, path, csrf, **wanted).status_code == 303
    kept = db.get_one(NoticePreference, me.person_id)
    db.refresh(kept)
    assert (kept.digest, kept.hour, kept.timezone) == ("weekly", 7, "Europe/Paris")
    assert kept.mails == {"pay": "never"}
    fields: dict[str, str]
    for fields, said in (
        ({"timezone": "Mars/Base"}, "must be a time zone"),
        ({"hour": "24"}, "from 0 to 23"),
        ({"digest": "hourly"}, "out of the ways that are listed"),
        ({"mail-pay": "by pigeon"}, "out of the ways that are listed"),
    ):
        answer = send(web, path, csrf, **wanted | fields)
        assert answer.status_code == 422
        assert said in answer.text
    db.refresh(kept)
    assert kept.mails == {"pay": "never"}


# Disputed time ------------------------------------------------------------------------------------


def asked(web: Web, offer: Offer, **fields: str) -> httpx.Response:
    """Send the form that asks for forty minutes after the offer was accepted."""
    assert offer.accepted_at is not None
    starts = offer.accepted_at + timedelta(hours=1)
    path = "/console/expert/disputes/new"
    return send(
        web,
        path,
        token(web, path),
        **{
            "offer": f"ofr_{offer.id.hex}",
            "kind": "missing_time",
            "starts_at": f"{starts:%Y-%m-%dT%H:%M:%S}",
            "ends_at": f"{starts + timedelta(minutes=40):%Y-%m-%dT%H:%M:%S}",
            "reason_code": "heartbeats_lost",
            "statement": SAID,
            **fields,
        },
    )


def test_time_is_asked_for_answered_decided_appealed_and_decided_again_on_pages(
    web: Web, db: Session
) -> None:
    offer = offered(db, accepted=True, ago=timedelta(hours=5))
    project = db.get_one(Project, offer.project_id)
    expert = visit_as(web, db, offer.expert_id)
    fields: dict[str, str]
    for fields, said in (
        ({"statement": "Short."}, "say what is so in 20"),
        ({"starts_at": "then"}, "The beginning is a day and a time"),
        ({"kind": "charm"}, "whether the time was not recorded"),
        ({"kind": "unpaid_time"}, "No recorded time beyond a cap"),
    ):
        refused = asked(web, offer, **fields)
        assert refused.status_code in (409, 422)
        assert said.lower() in refused.text.lower()
    answer = asked(web, offer)
    assert answer.status_code == 303, answer.text
    name = answer.headers["location"].partition("?")[0].rpartition("/")[2]
    mine, labs, ours = (f"/console/{part}/disputes" for part in ("expert", "lab", "ops"))
    check_guards(web.get(f"{mine}/{name}"))
    assert "Time that was not recorded" in web.get(mine).text
    # Nobody but the other side answers, and nobody but ops decides.
    csrf = token(web, f"{mine}/{name}")
    for move in ("answer", "decide", "dance"):
        assert send(web, f"{mine}/{name}/{move}", csrf, statement=SAID).status_code == 404
    visit(web, db, Part.LAB)
    assert web.get(f"{labs}/{name}").status_code == 404
    lab = key_of_lab(web, db, project)
    come_in(web, lab)
    csrf = token(web, f"{labs}/{name}")
    assert send(web, f"{labs}/{name}/answer", csrf, statement="No.").status_code == 422
    said = "Our logs show nothing of it at that time."
    assert send(web, f"{labs}/{name}/answer", csrf, statement=said).status_code == 303
    visit(web, db, Part.OPS)
    page = web.get(f"{ours}/{name}")
    check_guards(page)
    assert said in page.text
    csrf, row = token(web, f"{ours}/{name}"), db.scalars(select(Dispute)).one()
    db.refresh(row)
    decision = {
        "version": str(row.version),
        "outcome": "some",
        "awarded_s": "600",
        "statement": "Ten minutes of it are shown by the drafts.",
    }
    for fields in (
        {"version": "0"},
        {"awarded_s": "99999"},
        {"awarded_s": ""},
        {"outcome": "perhaps"},
        {"statement": "So."},
    ):
        refused = send(web, f"{ours}/{name}/decide", csrf, **decision | fields)
        assert refused.status_code in (409, 412, 422), fields
    assert send(web, f"{ours}/{name}/decide", csrf, **decision).status_code == 303
    assert "10\u00a0min of 40\u00a0min" in web.get(f"{ours}/{name}").text
    come_in(web, expert)
    csrf = token(web, f"{mine}/{name}")
    assert send(web, f"{mine}/{name}/appeal", csrf, statement=SAID).status_code == 303
    visit(web, db, Part.OPS)
    db.refresh(row)
    csrf = token(web, f"{ours}/{name}")
    final = {**decision, "version": str(row.version), "outcome": "all"}
    assert send(web, f"{ours}/{name}/decide", csrf, **final).status_code == 303
    db.refresh(row)
    assert (row.state, row.awarded_s, row.final_s) == ("final", 600, 2400)
    assert "Decided again" in web.get(f"{ours}/{name}").text
    assert name in web.get(f"{ours}?ended=true").text


def test_an_expert_takes_a_dispute_back(web: Web, db: Session) -> None:
    offer = offered(db, accepted=True, ago=timedelta(hours=5))
    visit_as(web, db, offer.expert_id)
    path = asked(web, offer).headers["location"].partition("?")[0]
    assert send(web, f"{path}/withdraw", token(web, path)).status_code == 303
    assert db.scalars(select(Dispute.state)).one() == "withdrawn"
