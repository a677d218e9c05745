"""Cases of fraud on pages: opened by one person, answered by the author, decided by another."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.earnings.actions import accrue_submission
from market.earnings.models import Earning
from market.frauds.models import FraudCase
from market.http import wire_id
from market.recoveries.actions import open_case
from market.recoveries.models import RecoveryCase
from market.submissions.models import Submission
from tests.factories import Caller, make_expert, make_offer, make_project, make_task
from tests.market.reviewed import STUMP, cast, hand_in
from tests.market.test_console import check_guards, come_in, send, token, visit, visit_as

Web = TestClient[Any]
OPS = "/console/ops/cases/frauds"
MINE = "/console/expert/cases"
WHY = "The answer was <i>copied</i> whole from a chapter that is in the evidence folder."
SAID = "I wrote that chapter myself; the publisher's letter is in the same folder."


def accepted(db: Session, author: Caller) -> Submission:
    """Accepted work of somebody, credited."""
    at = datetime.now(UTC) - timedelta(days=1)
    project = make_project(db, at=at, reviews_per_submission=1)
    offer = make_offer(db, make_task(db, project, at=at), author.person_id, at=at)
    handed = hand_in(db, offer=offer, at=at)
    cast(db, handed, STUMP, at=at + timedelta(hours=1))
    accrue_submission(db, handed.id, at=at + timedelta(hours=1))
    db.commit()
    return handed


def opened(web: Web, db: Session, work: Submission) -> str:
    """A case about the work, opened on its page by somebody of ops; its id as it travels."""
    visit(web, db, Part.OPS)
    csrf = token(web, f"{OPS}/new")
    given = {"submission": wire_id("sub", work.id), "reason": WHY, "evidence": "chapter 4\n\np. 12"}
    done = send(web, f"{OPS}/new", csrf, **given)
    assert done.status_code == 303, done.text
    return done.headers["location"].partition("?")[0].rpartition("/")[2]


def state_of(db: Session, work_id: UUID) -> tuple[str, str]:
    """Of the newest case about the work, and of the work."""
    db.expire_all()
    case = db.scalars(select(FraudCase).order_by(FraudCase.id.desc()).limit(1)).one()
    return case.state, db.get_one(Submission, work_id).state


def test_pages_of_cases_say_so_while_there_are_none(web: Web, db: Session) -> None:
    visit(web, db, Part.OPS)
    for path, said in ((OPS, "No case is open."), (f"{OPS}?ended=true", "None has ended yet.")):
        page = web.get(path)
        assert said in page.text
        check_guards(page)
    assert 'aria-current="page">Fraud' in web.get(OPS).text
    assert web.get(f"{OPS}/frd_nothing").status_code == 404
    visit(web, db, Part.EXPERT)
    page = web.get(MINE)
    assert "No case about your work." in page.text
    assert "No case about your pay." in page.text
    check_guards(page)
    assert web.get(OPS, follow_redirects=False).status_code in (303, 404)


def test_a_case_goes_from_one_page_to_the_next_until_it_is_final(web: Web, db: Session) -> None:
    author = visit_as(web, db, make_expert(db).id)
    work = accepted(db, author)
    case = opened(web, db, work)
    csrf = token(web, f"{OPS}/new")
    # Whoever opened it does not decide it, and reads so.
    page = web.get(f"{OPS}/{case}")
    assert "somebody else decides" in page.text
    assert "&lt;i&gt;copied" in page.text
    check_guards(page)
    again = send(web, f"{OPS}/new", csrf, submission=wire_id("sub", work.id), reason=WHY)
    assert (again.status_code, "has a case already" in again.text) == (409, True)
    short = send(web, f"{OPS}/new", csrf, submission=wire_id("sub", work.id), reason="Copied.")
    assert (short.status_code, ">Copied.<" in short.text) == (422, True)
    come_in(web, author)
    listed = web.get(MINE)
    assert case in listed.text
    assert case in web.get(f"/console/expert/submissions/{wire_id('sub', work.id)}").text
    page = web.get(f"{MINE}/{case}")
    check_guards(page)
    assert "chapter 4" in page.text
    csrf = token(web, f"{MINE}/{case}")
    assert send(web, f"{MINE}/{case}/decide", csrf, outcome="dismiss", text=SAID).status_code == 404
    few = send(web, f"{MINE}/{case}/answer", csrf, text="I did not.")
    assert (few.status_code, ">I did not.<" in few.text) == (422, True)
    assert send(web, f"{MINE}/{case}/answer", csrf, text=SAID).status_code == 303
    visit(web, db, Part.OPS)
    assert "a decision" in web.get(OPS).text
    csrf = token(web, f"{OPS}/{case}")
    none = send(web, f"{OPS}/{case}/decide", csrf, outcome="burn", text=WHY)
    assert (none.status_code, "one of the two outcomes" in none.text) == (422, True)
    assert send(web, f"{OPS}/{case}/decide", csrf, outcome="uphold", text=WHY).status_code == 303
    assert state_of(db, work.id) == ("upheld", "voided")
    # Who decided it does not decide the appeal, and the author reads by when somebody does.
    come_in(web, author)
    csrf = token(web, f"{MINE}/{case}")
    assert send(web, f"{MINE}/{case}/appeal", csrf, text=f"{SAID} Read it.").status_code == 303
    assert "then the work stands" in web.get(f"{MINE}/{case}").text
    visit(web, db, Part.OPS)
    csrf = token(web, f"{OPS}/{case}")
    late = send(web, f"{OPS}/{case}/decide", csrf, outcome="uphold", text=WHY)
    assert late.status_code == 409
    given = {
        "outcome": "overturn",
        "text": "The letter is genuine, and the chapter is the author's.",
    }
    assert send(web, f"{OPS}/{case}/decide-appeal", csrf, **given).status_code == 303
    assert state_of(db, work.id) == ("overturned", "accepted")
    assert case in web.get(f"{OPS}?ended=true").text
    come_in(web, author)
    page = web.get(f"{MINE}/{case}")
    assert "The letter is genuine" in page.text
    check_guards(page)
    visit(web, db, Part.EXPERT)
    assert web.get(f"{MINE}/{case}").status_code == 404


@pytest.mark.parametrize("outcome", ["uphold", "dismiss"])
def test_silence_alone_decides_nothing_against_an_author(
    web: Web, db: Session, outcome: str
) -> None:
    work = accepted(db, visit_as(web, db, make_expert(db).id))
    case = opened(web, db, work)
    visit(web, db, Part.OPS)
    csrf = token(web, f"{OPS}/{case}")
    done = send(web, f"{OPS}/{case}/decide", csrf, outcome=outcome, text=WHY)
    assert done.status_code == (303 if outcome == "dismiss" else 409)
    expected = "dismissed" if outcome == "dismiss" else "opened"
    assert state_of(db, work.id) == (expected, "accepted")


def test_a_case_about_pay_is_answered_on_the_page_of_its_expert(web: Web, db: Session) -> None:
    author = visit_as(web, db, make_expert(db).id)
    accepted(db, author)
    ops = visit(web, db, Part.OPS)
    line = db.scalars(select(Earning).where(Earning.expert_id == author.person_id)).first()
    assert line is not None
    made = open_case(db, line.id, reason=WHY, by=ops.person_id, at=datetime.now(UTC))
    db.commit()
    path = f"{MINE}/pay/{wire_id('rcv', made.id)}/answer"
    visit(web, db, Part.EXPERT)
    assert send(web, path, token(web, "/console/expert/profile"), text=SAID).status_code == 404
    come_in(web, author)
    assert "&lt;i&gt;copied" in web.get(MINE).text
    csrf = token(web, MINE)
    few = send(web, path, csrf, text="No.")
    assert (few.status_code, ">No.<" in few.text) == (422, True)
    assert send(web, path, csrf, text=SAID).status_code == 303
    db.expire_all()
    assert db.get_one(RecoveryCase, made.id).answer == SAID
    check_guards(web.get(MINE))
