"""`stumpwork policy ...`: from an idea to a default and back, and what is refused."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy.orm import Session

from market.auth import Part
from market.cli import arguments, main
from market.db import database
from market.http import wire_id
from market.people.actions import sign_up
from market.replay.caller import Caller, CallRefused
from market.replay.policies import FileUnreadable, carry_out
from tests.conftest import SECRET
from tests.factories import make_caller, make_expert, make_project
from tests.market.browser import REPOSITORY, web_process
from tests.market.test_previews import drawn_run

React = Callable[[], list[str]]
Ask = Callable[..., Any]
CALM = {"weights": {"urgency": 0.2}}
GAINS = ("stump", "quality", "interest", "affinity", "learning", "urgency")
"""What a pair can be worth something by."""


def asking(db: Session, web: TestClient[Any], say: Callable[[str], None]) -> Ask:
    """Somebody of ops who types commands; they are carried out over the API of the test."""
    key = make_caller(db, web, Part.OPS).key

    def ask(*words: str) -> Any:
        caller = Caller("", key, web)
        return carry_out(caller, arguments().parse_args(["policy", *words]), say)

    return ask


@pytest.fixture
def ask(db: Session, web: TestClient[Any], react: React) -> Ask:
    # Whoever waits for a preview is told how far it is; that is when its job is done here.
    def work(line: str) -> None:
        assert react(), line

    return asking(db, web, work)


def written(folder: Path, document: object) -> str:
    path = folder / "policy.json"
    path.write_text(json.dumps(document))
    return str(path)


def proposed(ask: Ask, folder: Path, document: object = CALM) -> str:
    made: str = ask("propose", "tuned", written(folder, document), "--reason", "It waits.")["id"]
    return made


def test_versions_are_proposed_from_a_file_or_a_pipe_and_shown_listed_and_told_apart(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = proposed(ask, tmp_path)
    assert ask("show", first)["document"]["weights"]["urgency"] == 0.2
    assert ask("show", first)["reason"] == "It waits."
    rows = ask("list", "--name", "tuned")
    assert [(row["id"], row["version_no"], row["is_default"]) for row in rows] == [
        (first, 1, False)
    ]
    assert len(ask("list")) == 3
    told = ask("diff", first)
    assert told["differences"][0].startswith("Urgency counts 2 times as much, from 0.1 to 0.2")
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"weights": {"urgency": 0.4}}'))
    piped = ["propose", "tuned", "-", "--reason", "More.", "--based-on", "1"]
    second = ask(*piped)
    assert second["version_no"] == 2
    apart = ask("diff", second["id"], "--against", first)
    assert len(apart["differences"]) == 1
    assert "from 0.2 to 0.4" in apart["differences"][0]
    # A second person who still knows version 1 alone undoes nobody's work.
    monkeypatch.setattr(sys, "stdin", io.StringIO("{}"))
    with pytest.raises(CallRefused, match="is at version 2 now") as stale:
        ask(*piped)
    assert stale.value.status == 412


def test_a_version_is_approved_by_a_second_person_chosen_and_taken_back(
    db: Session, web: TestClient[Any], ask: Ask, tmp_path: Path
) -> None:
    bold = proposed(ask, tmp_path, {"weights": {"stump": 0.1, "cost": 3.0}})
    with pytest.raises(CallRefused, match="approve"):
        ask("choose", bold, "--reason", "Now.")
    with pytest.raises(CallRefused):
        ask("approve", bold, "--note", "My own is fine.")
    other = asking(db, web, lambda line: None)
    assert other("approve", bold, "--note", "It is worth it.")["approval_wanted"] == []
    assert ask("choose", bold, "--reason", "Now.")["policy_id"] == bold
    assert next(row["id"] for row in ask("list") if row["is_default"]) == bold
    assert ask("return")["how"] == "returned"
    assert not ask("show", bold)["is_default"]
    project = wire_id("prj", make_project(db).id)
    calm = proposed(ask, tmp_path)
    own = ask("choose", calm, "--reason", "Here alone.", "--project", project)
    assert (own["policy_id"], own["is_own"]) == (calm, True)
    assert ask("return", "--project", project)["how"] == "returned"


def test_a_past_week_is_replayed_and_searched(
    db: Session, ask: Ask, react: React, tmp_path: Path
) -> None:
    drawn_run(db)
    react()
    told = ask("preview", proposed(ask, tmp_path), "--days", "3")
    assert (told["runs"], told["seats"]) == (1, 5)
    found = ask("search", "--fill", "0.9", "--domain", "chemistry", "--evaluations", "8")
    assert found["reached"]
    assert found["choices"]
    project = wire_id("prj", make_project(db).id)
    with pytest.raises(CallRefused, match="nothing to replay"):
        ask("preview", proposed(ask, tmp_path), "--project", project)


def test_an_experiment_is_begun_watched_ended_and_kept(
    db: Session, ask: Ask, tmp_path: Path
) -> None:
    for _ in range(40):
        make_expert(db)
    policy = proposed(ask, tmp_path)
    begun = ask("canary", policy, "--share", "0.2", "--reason", "Chemistry waits.")
    assert (begun["state"], begun["share"], begun["unit"]) == ("running", 0.2, "expert")
    ended = ask("finish", begun["id"], "--reason", "Enough.")
    assert (ended["state"], ended["end_reason"]) == ("finished", "Enough.")
    again = ask("canary", policy, "--share", "0.2", "--reason", "Once more.")
    assert ask("promote", again["id"], "--reason", "Better.")["state"] == "promoted"
    assert ask("show", policy)["is_default"]
    design = {
        "name": "brief",
        "kind": "instructions",
        "unit": "expert",
        "share": 0.5,
        "reason": "Shorter may be better.",
        "treatment": {"text": "Be brief."},
    }
    tried = ask("trial", written(tmp_path, design))
    assert tried["state"] == "running"
    assert ask("watch", tried["id"])["treated_units"] > 0
    assert [row["id"] for row in ask("trials", "--state", "running")] == [tried["id"]]
    assert len(ask("trials")) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "plc_nothing"], "404"),
        (["show", "../experiments"], "404"),
        (["diff", "plc_01890a5dac00700080000000000000ff"], "no such policy"),
        (["approve", "plc_01890a5dac00700080000000000000ff", "--note", "Yes."], "no such policy"),
        (["watch", "exp_01890a5dac0070008000000000000001"], "no such experiment"),
        (["promote", "exp_01890a5dac0070008000000000000001"], "no such experiment"),
        (["finish", "exp_01890a5dac0070008000000000000001", "--reason", "x"], "no such experiment"),
        (["return"], "no other policy was in use"),
        (["search", "--fill", "0.9"], "nothing to replay"),
        (["search", "--fill", "0.9", "--evaluations", "0"], "evaluations"),
        (["canary", "plc_nothing", "--reason", "x"], "404"),
    ],
)
def test_what_the_service_refuses_is_said_in_its_words(
    ask: Ask, words: list[str], said: str
) -> None:
    with pytest.raises(CallRefused, match=said):
        ask(*words)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"weights": {"stump": 1e9}}, "weights.stump"),
        ({"weights": {"charm": 1}}, "charm"),
        ({"weights": {**dict.fromkeys(GAINS, 0), "cost": 5}}, "every pair is worth nothing"),
    ],
)
def test_a_document_that_does_not_fit_is_refused_with_its_setting(
    ask: Ask, tmp_path: Path, document: object, said: str
) -> None:
    with pytest.raises(CallRefused, match=said) as refused:
        proposed(ask, tmp_path, document)
    assert refused.value.status == 422


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is no JSON"),
        (b"[]", "holds no JSON object"),
        (b'{"weights": {"stump": NaN}}', "NaN is no number"),
        (b"\xff\xfe", "is no JSON"),
        (None, "No such file"),
    ],
)
def test_a_file_that_holds_no_policy_is_refused_before_anything_is_sent(
    ask: Ask, tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "policy.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileUnreadable, match=said):
        ask("propose", "tuned", str(path), "--reason", "x")
    with pytest.raises(FileUnreadable, match=said):
        ask("trial", str(path))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["list"], 1, "give a key of ops"),
        (["list", "--key", "sw_x", "--url", "http://127.0.0.1:9"], 1, "no answer"),
        (["canary", "plc_x", "--reason", "x", "--share", "nan"], 2, "no share"),
        (["canary", "plc_x", "--reason", "x", "--share", "2"], 2, "no share"),
        (["canary", "plc_x", "--reason", "x", "--share", "some"], 2, "invalid _share value"),
        (["preview", "plc_x", "--days", "inf"], 2, "no number of days"),
        (["preview", "plc_x", "--days", "-1"], 2, "no number of days"),
        (["search"], 2, "--fill"),
        (["propose", "tuned", "x.json"], 2, "--reason"),
        (["charm"], 2, "invalid choice"),
    ],
)
def test_a_command_that_cannot_be_carried_out_ends_with_one_line_and_its_exit_code(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.delenv("STUMPWORK_KEY", raising=False)
    if code == 1:
        assert main(["policy", *words]) == 1
    else:
        with pytest.raises(SystemExit) as ended:
            main(["policy", *words])
        assert ended.value.code == code
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err.splitlines()[-1]
    assert "Traceback" not in told.err
    if code == 1:
        assert len(told.err.splitlines()) == 1


@pytest.mark.slow
def test_the_command_itself_speaks_to_a_served_market_and_prints_json(committed: str) -> None:
    with database.begin() as session:
        joined = sign_up(
            session,
            part=Part.OPS,
            name="Ops",
            email="ops@people.example",
            organisation_name=None,
            at=datetime.now(UTC),
        )
    with web_process(committed, SECRET) as address:
        given = {**os.environ, "STUMPWORK_URL": address, "STUMPWORK_KEY": joined.secret}

        def run(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
            argv = [sys.executable, "-m", "market.cli", "policy", *words]
            return subprocess.run(
                argv,
                input=text,
                env=given,
                cwd=REPOSITORY,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )

        made = run("propose", "tuned", "-", "--reason", "It waits.", text=json.dumps(CALM))
        assert made.returncode == 0, made.stderr
        policy = json.loads(made.stdout)["id"]
        assert policy in {row["id"] for row in json.loads(run("list").stdout)}
        refused = run("show", "plc_nothing")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith("stumpwork: GET /v1/policies/plc_nothing was refused")
        assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["demo", "--experts", "0"], "'0' is no whole number from 1 on"),
        (["up", "--port", "http"], "'http' is no whole number from 1 on"),
        (["pay", "tomorrow"], "'tomorrow' is no day, such as 2026-11-16"),
    ],
)
def test_a_command_that_is_typed_wrongly_says_what_is_wanted_before_anything_starts(
    typed: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(typed)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
