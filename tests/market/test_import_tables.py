"""Tables of tasks: CSV in every character set, Parquet, and what is neither."""

import io
from typing import Any

import pyarrow
import pytest
from litestar.testing import TestClient
from pyarrow import parquet
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from market import uploads
from market.auth import Part
from market.imports import BulkImport
from market.projects.models import Project
from tests.factories import Caller, make_caller, make_project
from tests.market.sending import JSONL, counts, kept, lines, row, send, told

PARQUET = "application/vnd.apache.parquet"


@pytest.fixture
def lab(db: Session, web: TestClient[Any]) -> Caller:
    return make_caller(db, web, Part.LAB)


@pytest.fixture
def project(db: Session, lab: Caller) -> Project:
    made = make_project(db, lab.organisation_id, answers_per_task=2, cap_s=1200)
    db.commit()
    return made


# Tables -------------------------------------------------------------------------------------------

CSV = 'external_id,domain,complexity,payload\nt-1,chemistry,3,"{""q"": ""Größe, ‚€‘""}"\n'


@pytest.mark.parametrize(
    ("charset", "named"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("windows-1252", "; charset=windows-1252"),
        ("utf-16", "; charset=utf-16"),
        ("utf-16-le", '; charset="UTF-16LE"'),
    ],
)
def test_csv_comes_in_whatever_character_set_it_names(
    db: Session, lab: Caller, project: Project, charset: str, named: str
) -> None:
    found = told(send(lab, project, CSV.encode(charset), f"text/csv{named}"))
    assert counts(found) == (1, 0, 0, 0), found
    task = kept(db, project)["t-1"]
    assert (task.payload, task.complexity, task.import_line) == ({"q": "Größe, ‚€‘"}, 3, 2)


def test_csv_in_latin_1_comes_in_when_it_says_so(
    db: Session, lab: Caller, project: Project
) -> None:
    plain = CSV.replace("‚€‘", "né")
    found = told(send(lab, project, plain.encode("latin-1"), "text/csv; charset=ISO-8859-1"))
    assert counts(found) == (1, 0, 0, 0)
    assert kept(db, project)["t-1"].payload == {"q": "Größe, né"}


def test_csv_in_another_character_set_is_refused_whole_with_the_place_and_a_way_out(
    db: Session, lab: Caller, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = "".join(f"t-{n},chemistry,{{}}\n" for n in range(2, 50))
    body = f"external_id,domain,payload\n{good}".encode() + "é,chemistry,{}\n".encode("latin-1")
    for size in (7, 1024 * 1024):
        monkeypatch.setattr(uploads, "CHUNK_BYTES", size)
        answer = send(lab, project, body, "text/csv")
        assert (answer.status_code, answer.json()["code"]) == (422, "encoding_refused")
        assert answer.json()["byte_offset"] == body.index(b"\xe9")
        assert "charset=" in answer.json()["detail"]
    assert kept(db, project) == {}
    assert db.scalar(select(func.count()).select_from(BulkImport)) == 0


@pytest.mark.parametrize("charset", ["utf-16", "utf-32"])
def test_csv_that_lacks_the_byte_order_mark_of_its_character_set_is_refused(
    lab: Caller, project: Project, charset: str
) -> None:
    answer = send(lab, project, CSV.encode("utf-8"), f"text/csv; charset={charset}")
    assert (answer.status_code, answer.json()["code"]) == (422, "encoding_refused")
    assert answer.json()["byte_offset"] == 0


def test_rows_of_csv_are_judged_one_by_one(lab: Caller, project: Project) -> None:
    body = (
        "external_id,domain,complexity,payload\n"
        'a,chemistry,,"{\n}"\n'
        "b,chemistry,three,{}\n"
        "c,chemistry,1,{not json}\n"
        "d,chemistry\n"
        "\n"
        ",chemistry,1,{}\n"
        "f,chemistry,1,[]\n"
        "g,chemistry,2,{}\n"
    )
    found = told(send(lab, project, body.encode(), "text/csv"))
    assert counts(found) == (2, 0, 0, 5)
    assert [(one["line"], one["code"], one["pointer"]) for one in found["first_refused"]] == [
        (4, "wrong_type", "/complexity"),
        (5, "malformed_json", "/payload"),
        (6, "cells", ""),
        (8, "missing_field", "/external_id"),
        (9, "wrong_type", "/payload"),
    ]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "header_refused"),
        ("t-1,chemistry,{}\n", "header_refused"),
        ("external_id,domain,payload,owner\n", "header_refused"),
        ("external_id,domain,payload,domain\n", "header_refused"),
        ("external_id,payload\n", "header_refused"),
        ('external_id,domain,payload\na,chemistry,"{}', "file_unreadable"),
        ('external_id,domain,payload\na,chemistry,"{}"x\n', "file_unreadable"),
        ("external_id,domain,payload\ra,chemistry,{}\r", "file_unreadable"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused_whole(
    db: Session, lab: Caller, project: Project, body: str, code: str
) -> None:
    answer = send(lab, project, body.encode(), "text/csv")
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert kept(db, project) == {}


def parquet_of(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), sink, compression="zstd")
    return sink.getvalue()


def test_parquet_comes_in_with_payloads_as_structs_or_as_text(
    db: Session, lab: Caller, project: Project
) -> None:
    body = parquet_of(
        {
            "external_id": ["a", "b", None],
            "domain": ["chemistry"] * 3,
            "payload": [{"q": "x", "n": [1, 2]}, {"q": "y", "n": None}, {"q": "z", "n": []}],
            "complexity": [1, None, 3],
        }
    )
    found = told(send(lab, project, body, PARQUET))
    assert counts(found) == (2, 0, 0, 1)
    assert found["first_refused"][0]["code"] == "missing_field"
    texts = {"external_id": ["c", "d"], "domain": ["chemistry"] * 2, "payload": ["{}", "{"]}
    found = told(send(lab, project, parquet_of(texts), PARQUET, key="2"))
    assert [(one["line"], one["code"]) for one in found["first_refused"]] == [(2, "malformed_json")]
    odd = {"external_id": ["e"], "domain": ["chemistry"], "payload": [{"x": float("nan")}]}
    found = told(send(lab, project, parquet_of(odd), PARQUET, key="3"))
    assert found["first_refused"][0]["code"] == "wrong_type"
    tasks = kept(db, project)
    assert tasks["a"].payload == {"q": "x", "n": [1, 2]}
    assert (tasks["b"].payload, tasks["b"].complexity) == ({"q": "y", "n": None}, 1)
    assert set(tasks) == {"a", "b", "c"}


def test_what_is_no_parquet_is_refused(lab: Caller, project: Project) -> None:
    whole = parquet_of({"external_id": ["a"], "domain": ["chemistry"], "payload": ["{}"]})
    broken = bytearray(whole)
    broken[4:40] = b"\xff" * 36
    for body in (b"", b"PAR1", whole[:-5], bytes(broken)):
        answer = send(lab, project, body, PARQUET)
        assert (answer.status_code, answer.json()["code"]) == (422, "file_unreadable"), answer.text
    other = parquet_of({"external_id": ["a"], "colour": ["red"]})
    assert send(lab, project, other, PARQUET).json()["code"] == "header_refused"


@pytest.mark.parametrize(
    ("kind", "headers", "code"),
    [
        ("application/json", {}, "upload_type_unknown"),
        ("", {}, "upload_type_unknown"),
        ("text/csv; charset=rot13", {}, "charset_unknown"),
        ("text/csv; charset=latin-77", {}, "charset_unknown"),
        (f"{JSONL}; charset=latin-1", {}, "charset_unknown"),
        (JSONL, {"Content-Encoding": "gzip"}, "upload_type_unknown"),
    ],
)
def test_a_format_that_is_not_read_is_named(
    lab: Caller, project: Project, kind: str, headers: dict[str, str], code: str
) -> None:
    answer = send(lab, project, lines([row(1)]), kind, **headers)
    assert (answer.status_code, answer.json()["code"]) == (415, code), answer.text


def test_a_body_announced_as_too_large_is_refused_at_once(lab: Caller, project: Project) -> None:
    answer = send(lab, project, b"x", **{"Content-Length": str(3 * 1024**3)})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
