"""What makes tasks complex, by named axes, and what each complexity of a project is made of."""

from typing import Any

from litestar.testing import TestClient
from sqlalchemy.orm import Session

from market.auth import Part
from tests.factories import make_caller, make_project, make_task
from tests.market.sending import counts, lines, row, send, told
from tests.market.test_console import come_in


def test_a_lab_reads_what_each_complexity_of_its_project_is_made_of(
    db: Session, web: TestClient[Any]
) -> None:
    lab = make_caller(db, web, Part.LAB)
    project = make_project(db, lab.organisation_id, cap_s=1800)
    # Written before there were axes, with something else under their name.
    for other in ("hard", {"tools": "many", "modalities": 3}):
        make_task(db, project, complexity=2, payload={"complexity_axes": other})
    db.commit()

    def named(number: int, complexity: int, **axes: object) -> dict[str, object]:
        payload = {"complexity_axes": axes} if axes else {}
        return row(number, complexity=complexity, payload=payload)

    found = told(
        send(
            lab,
            project,
            lines(
                [
                    named(1, 1),
                    named(2, 6, horizon_h=10, tools=3, steps=12, modalities=["text", "image"]),
                    named(3, 6, horizon_h=100.0, tools=5, crosses=["law"], modalities=["text"]),
                    named(4, 6, horizon_h=20),
                    named(5, 6, horizon_days=3),
                ]
            ),
        )
    )
    assert counts(found) == (4, 0, 0, 1)
    path = f"/v1/projects/prj_{project.id.hex}/complexities"
    plain, before, long = lab.get(path).json()
    nothing: dict[str, object] = {"tools": None, "steps": None, "modalities": [], "crosses": []}
    assert plain == {
        "complexity": 1,
        "tasks": 1,
        "described": 0,
        "horizon_h": 0.5,
        "longest_h": 0.5,
        **nothing,
    }
    assert before | nothing == before
    assert (before["tasks"], before["horizon_h"]) == (2, 0.5)
    assert long == {
        "complexity": 6,
        "tasks": 3,
        "described": 3,
        "horizon_h": 20.0,
        "longest_h": 100.0,
        "tools": 4.0,
        "steps": 12.0,
        "modalities": ["image", "text"],
        "crosses": ["law"],
    }
    come_in(web, lab)
    page = web.get(f"/console/lab/projects/prj_{project.id.hex}/stump-rate").text
    assert "What each complexity is made of" in page
    assert all(word in page for word in (">20.0<", ">100.0<", ">image, text<", ">law<"))
    stranger = make_caller(db, web, Part.LAB)
    assert stranger.get(path).status_code == 404
