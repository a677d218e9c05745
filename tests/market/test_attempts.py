"""Asking a target model: evidence, failures, cost, and where requests may go."""

import base64
import hashlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from litestar.testing import TestClient
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from market import egress
from market.attempts import jobs
from market.attempts.actions import (
    Answer,
    claim_stump,
    fail_attempt,
    make_attempt,
    record_answer,
    submit_attempt,
    take_order,
)
from market.attempts.jobs import ask_model
from market.attempts.models import Attempt, AttemptResponse
from market.attempts.rules import (
    ATTEMPT,
    MAX_PROMPT,
    AttemptNotFound,
    AttemptNotReady,
    AttemptOpen,
    LeaseHeld,
    NoOpenSession,
    NoTargetModel,
    PromptUnfit,
    cost_minor,
    is_missed,
    normal_answer,
)
from market.auth import Part, keyring
from market.db import database
from market.offers.models import Offer
from market.projects.models import Project, TargetModel
from market.settings import Settings, in_force
from market.states import StateConflict
from market.work.actions import end_session, start_session
from tests.factories import (
    AT,
    key_for,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
    pairs_in_database,
)
from tests.fakemodel import FakeModel
from tests.races import at_once

Web = TestClient[Any]


@pytest.fixture(autouse=True)
def _settings(settings: Settings) -> None:
    assert in_force.settings is settings


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    # The waits between tries are the clock's, which tests may stand in for.
    monkeypatch.setattr(jobs, "WAITS_S", (0.01, 0.02))


@pytest.fixture
def model() -> Iterator[FakeModel]:
    """A target model on loopback."""
    with FakeModel(key="sk-secret") as running:
        yield running


def offer_with(db: Session, base_url: str, *, at: datetime = AT, **target: Any) -> Offer:
    """An offer under work in a project whose target model stands at an address."""
    project = make_project(db, at=at)
    values = {"samples": 2, "timeout_s": 5, "max_tokens": 64, **target}
    db.execute(
        update(TargetModel)
        .where(TargetModel.id == project.target_model_id)
        .values(base_url=base_url, sealed_key=keyring.seal(b"sk-secret"), **values)
    )
    offer = make_offer(db, make_task(db, project, at=at), make_expert(db, at=at).id, at=at)
    start_session(db, offer.id, expert_id=offer.expert_id, at=at)
    db.commit()
    return offer


def ask(db: Session, offer: Offer, prompt: str, reference: str = "7", **given: Any) -> Attempt:
    """Put a question and run its job here and now."""
    row = make_attempt(
        db, offer.id, expert_id=offer.expert_id, prompt=prompt, reference=reference, at=AT, **given
    )
    db.commit()
    ask_model(str(row.id))
    db.expire_all()
    return row


def target_of(db: Session, offer: Offer) -> TargetModel:
    """The target model of an offer's project."""
    project = db.get_one(Project, offer.project_id)
    assert project.target_model_id is not None
    return db.get_one(TargetModel, project.target_model_id)


# Evidence -----------------------------------------------------------------------------------------


def test_an_answer_is_kept_with_its_bytes_and_digests(db: Session, model: FakeModel) -> None:
    offer = offer_with(db, model.base_url)
    row = ask(db, offer, "What is 12345 * 67891?", "838114395")
    assert (row.state, row.failure_code) == ("responded", None)
    kept = db.scalars(select(AttemptResponse).order_by(AttemptResponse.k)).all()
    assert [response.k for response in kept] == [0, 1]
    for response in kept:
        assert response.status == 200
        assert response.output.startswith("Multiplying step by step.")
        assert response.response_digest == hashlib.sha256(response.raw).digest()
        assert response.request_digest == hashlib.sha256(response.request).digest()
        assert response.model_version == "fake-1-2026-01-01"
    # Each sample has a seed of its own, and the key that was sealed.
    assert [seen["seed"] for seen in model.world.seen] == [0, 1]
    assert {seen["key"] for seen in model.world.seen} == {"sk-secret"}


def test_evidence_is_never_changed_and_its_digest_cannot_lie(db: Session, model: FakeModel) -> None:
    ask(db, offer_with(db, model.base_url), "2 + 2?")
    for change in (
        "update market.attempt_response set output = 'forged'",
        "delete from market.attempt_response",
        "truncate market.attempt_response",
        "insert into market.attempt_response select attempt_id, 9, organisation_id, expert_id,"
        " output, status, latency_ms, tokens_in, tokens_out, cost_minor, request, request_digest,"
        " 'forged', response_digest, at from market.attempt_response where k = 0",
    ):
        with pytest.raises(DBAPIError), db.begin_nested():
            db.execute(text(change))


def test_asking_twice_asks_the_model_once(db: Session, model: FakeModel) -> None:
    row = ask(db, offer_with(db, model.base_url), "2 + 2?")
    ask_model(str(row.id))
    assert model.world.count == 2


def test_a_worker_that_died_is_followed_where_it_stopped(db: Session, model: FakeModel) -> None:
    offer = offer_with(db, model.base_url, samples=3)
    row = make_attempt(
        db, offer.id, expert_id=offer.expert_id, prompt="2 + 2?", reference="4", at=AT
    )
    began = datetime.now(UTC) - timedelta(hours=1)
    order = take_order(db, row.id, at=began)
    assert order is not None
    record_answer(db, row.id, 0, jobs.ask(order, 0, allow_private=True), at=began)
    with pytest.raises(LeaseHeld):
        take_order(db, row.id, at=began + timedelta(seconds=10))
    db.commit()
    ask_model(str(row.id))
    db.expire_all()
    assert row.state == "responded"
    assert [seen["seed"] for seen in model.world.seen] == [0, 1, 2]


# Failures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "code", "requests"),
    [
        ("[[500]]", "model_error", 3),
        ("[[429]]", "model_error", 3),
        ("[[slow:3]]", "model_timeout", 3),
        ("[[drip:3]]", "model_timeout", 3),
        ("[[nonsense]]", "model_nonsense", 1),
        ("[[empty]]", "model_nonsense", 1),
        ("[[say: ]]", "model_nonsense", 1),
        ("[[redirect]]", "model_redirects", 1),
        ("[[cut]]", "model_unreachable", 3),
        ("[[huge]]", "model_unreachable", 3),
    ],
)
def test_a_model_that_fails_fails_the_attempt_and_leaves_the_expert_its_time(
    db: Session, model: FakeModel, prompt: str, code: str, requests: int
) -> None:
    offer = offer_with(
        db, model.base_url, samples=1, timeout_s=1, price_out_minor=1000, cost_cap_minor=100
    )
    row = ask(db, offer, prompt)
    assert (row.state, row.failure_code) == ("failed", code)
    assert row.failure
    assert model.world.count == requests
    assert target_of(db, offer).spent_minor == 0
    # The expert may ask again at once, and its clock ran on.
    assert ask(db, offer, "2 + 2?").state == "responded"


@pytest.mark.parametrize("prompt", ["[[500:2]] 2 + 2?", "[[429:1]] 2 + 2?", "[[nousage]] 2 + 2?"])
def test_a_model_that_recovers_is_asked_again(db: Session, model: FakeModel, prompt: str) -> None:
    row = ask(db, offer_with(db, model.base_url, samples=1), prompt)
    assert (row.state, row.failure_code) == ("responded", None)


def test_a_model_that_refuses_our_key_fails_the_attempt(db: Session) -> None:
    with FakeModel(key="another") as model:
        row = ask(db, offer_with(db, model.base_url, samples=1), "2 + 2?")
    assert (row.state, row.failure_code) == ("failed", "model_refuses")


def test_a_key_that_cannot_be_read_fails_the_attempt(db: Session, model: FakeModel) -> None:
    offer = offer_with(db, model.base_url)
    target_of(db, offer).sealed_key = b"not sealed by us"
    row = ask(db, offer, "2 + 2?")
    assert (row.state, row.failure_code, model.world.count) == ("failed", "key_unreadable", 0)


def test_a_model_that_is_not_there_fails_the_attempt(db: Session) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        row = ask(db, offer_with(db, url, samples=1), "2 + 2?")
    assert (row.state, row.failure_code) == ("failed", "model_unreachable")


def test_an_answer_that_no_database_holds_is_kept_as_bytes(db: Session, model: FakeModel) -> None:
    offer = offer_with(db, model.base_url, samples=1)
    row = make_attempt(db, offer.id, expert_id=offer.expert_id, prompt="?", reference="4", at=AT)
    order = take_order(db, row.id, at=AT)
    assert order is not None
    raw = rb'{"choices": [{"message": {"content": "a\u0000b \ud83d\ude00"}}]}'
    answer = jobs.read_answer(egress.Reply(200, raw, {}, 0.5), b"{}")
    record_answer(db, row.id, 0, answer, at=AT)
    kept = db.scalars(select(AttemptResponse)).one()
    assert (kept.raw, kept.output) == (raw, "a\N{REPLACEMENT CHARACTER}b \N{GRINNING FACE}")


def test_a_lab_cannot_make_us_ask_a_private_address(db: Session, settings: Settings) -> None:
    strict = Settings(database_url=settings.database_url, secret_key=settings.secret_key)
    in_force.open(strict)
    try:
        with FakeModel(key="sk-secret") as model:
            row = ask(db, offer_with(db, model.base_url), "2 + 2?")
            assert (row.state, row.failure_code) == ("failed", "address_refused")
            assert model.world.count == 0
    finally:
        in_force.open(settings)


# Cost ---------------------------------------------------------------------------------------------


def test_the_cost_cap_is_checked_before_the_model_is_asked(db: Session, model: FakeModel) -> None:
    offer = offer_with(db, model.base_url, price_out_minor=10_000_000, cost_cap_minor=1279)
    # Two samples of at most 64 tokens at ten minor units a token are 1280.
    row = ask(db, offer, "2 + 2?")
    assert (row.state, row.failure_code, model.world.count) == ("failed", "cost_cap", 0)
    target_of(db, offer).cost_cap_minor = 1280
    db.flush()
    row = ask(db, offer, "2 + 2?")
    assert row.state == "responded"
    # What is counted in the end is what the answers used: nine bytes each are three tokens.
    costs = db.scalars(select(AttemptResponse.cost_minor)).all()
    assert list(costs) == [Decimal(30), Decimal(30)]
    assert target_of(db, offer).spent_minor == 60
    assert row.reserved_minor == 0


def test_an_answer_without_usage_is_counted_in_full(db: Session, model: FakeModel) -> None:
    offer = offer_with(
        db, model.base_url, samples=1, price_out_minor=1_000_000, cost_cap_minor=1000
    )
    assert ask(db, offer, "[[nousage]] 2 + 2?").state == "responded"
    assert target_of(db, offer).spent_minor == 64


def test_cost_is_exact_to_a_millionth_and_rounded_up() -> None:
    assert cost_minor(1_000_000, 0, Decimal(250), Decimal(0)) == Decimal(250)
    assert cost_minor(1, 0, Decimal("0.1"), Decimal(0)) == Decimal("0.000001")
    assert cost_minor(0, 3, Decimal(0), Decimal(1000)) == Decimal("0.003")


# Claims -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "reference", "missed"),
    [
        ("Answer: 838114395", "838114395", False),
        ("The answer is: 838,114,395.", "838114395", False),
        ("Steps.\nSo \\boxed{7/2}", "7/2", False),
        ("**Answer: Paris**", "paris", False),
        ("Answer: 838114595", "838114395", True),
        ("I cannot help with that.", "7", True),
        ("", "7", True),
    ],
)
def test_the_automatic_judge_reads_the_last_answer(
    output: str, reference: str, missed: bool
) -> None:
    assert is_missed(output, reference) is missed


def test_a_normal_answer_is_idempotent() -> None:
    for output in ("Answer: 1,234", "x\ny  Z.", "\\boxed{ A }"):
        assert normal_answer(normal_answer(output)) == normal_answer(output)


def test_a_claim_is_judged_and_handed_in(db: Session, model: FakeModel) -> None:
    offer = offer_with(db, model.base_url)
    expert_id = offer.expert_id
    row = ask(db, offer, "What is 12345 * 67891?", "838114395")
    with pytest.raises(AttemptNotReady):
        submit_attempt(
            db, offer.id, row.id, expert_id=expert_id, payload={"a": 1}, at=AT + timedelta(60)
        )
    claim_stump(db, row.id, expert_id=expert_id, claims_stump=True, at=AT)
    assert (row.state, row.judge_missed) == ("auto_judged", 2)
    with pytest.raises(StateConflict):
        claim_stump(db, row.id, expert_id=expert_id, claims_stump=False, at=AT)
    handed = submit_attempt(
        db,
        offer.id,
        row.id,
        expert_id=expert_id,
        payload={"a": 1},
        at=AT + timedelta(seconds=60),
    )
    assert handed.attempt_id == row.id


def test_a_conceded_attempt_is_not_a_stump_and_may_be_handed_in(
    db: Session, model: FakeModel
) -> None:
    offer = offer_with(db, model.base_url)
    row = ask(db, offer, "2 + 2?", "4")
    claim_stump(db, row.id, expert_id=offer.expert_id, claims_stump=False, at=AT)
    assert (row.state, row.judge_missed) == ("not_stumped", None)
    handed = submit_attempt(
        db,
        offer.id,
        row.id,
        expert_id=offer.expert_id,
        payload={"could": "not"},
        at=AT + timedelta(seconds=60),
    )
    assert handed.state == "awaiting_review"


def test_an_attempt_of_another_offer_is_not_handed_in(db: Session, model: FakeModel) -> None:
    offer, other = offer_with(db, model.base_url), offer_with(db, model.base_url)
    row = ask(db, offer, "2 + 2?")
    with pytest.raises(AttemptNotFound):
        claim_stump(db, row.id, expert_id=other.expert_id, claims_stump=True, at=AT)
    with pytest.raises(AttemptNotFound):
        submit_attempt(db, other.id, row.id, expert_id=other.expert_id, payload={"a": 1}, at=AT)


def test_a_question_needs_a_session_a_model_and_a_text(db: Session, model: FakeModel) -> None:
    offer = offer_with(db, model.base_url)
    given: dict[str, Any] = {"expert_id": offer.expert_id, "reference": "7", "at": AT}
    for prompt in ("", "  \n", "x" * (MAX_PROMPT + 1)):
        with pytest.raises(PromptUnfit):
            make_attempt(db, offer.id, prompt=prompt, **given)
    with pytest.raises(PromptUnfit):
        make_attempt(db, offer.id, prompt="2 + 2?", **{**given, "reference": ""})
    make_attempt(db, offer.id, prompt="2 + 2?", **given)
    with pytest.raises(AttemptOpen):
        make_attempt(db, offer.id, prompt="3 + 3?", **given)
    bare = make_project(db, target_model_id=None)
    lone = make_offer(db, make_task(db, bare), make_expert(db).id)
    given["expert_id"] = lone.expert_id
    with pytest.raises(NoOpenSession):
        make_attempt(db, lone.id, prompt="2 + 2?", **given)
    row = start_session(db, lone.id, expert_id=lone.expert_id, at=AT)
    with pytest.raises(NoTargetModel):
        make_attempt(db, lone.id, prompt="2 + 2?", **given)
    end_session(db, row.id, expert_id=lone.expert_id, at=AT)


def test_a_connection_that_has_made_many_attempts_makes_another(db: Session) -> None:
    offer = offer_with(db, "http://127.0.0.1:9/v1")
    for nth in range(20):
        row = make_attempt(
            db, offer.id, expert_id=offer.expert_id, prompt=f"{nth}?", reference="7", at=AT
        )
        fail_attempt(db, row.id, code="model_error", reason="for the test", at=AT)


def test_the_database_lets_through_what_the_rules_list(db: Session) -> None:
    assert pairs_in_database(db, ATTEMPT) == ATTEMPT.pairs()


def test_a_failure_after_the_answer_changes_nothing(db: Session, model: FakeModel) -> None:
    row = ask(db, offer_with(db, model.base_url), "2 + 2?")
    assert fail_attempt(db, row.id, code="model_error", reason="late", at=AT).state == "responded"
    same = Answer("forged", 200, 1, b"{}", b"{}", 0, 0, None, None)
    record_answer(db, row.id, 0, same, at=AT)
    assert "forged" not in db.scalars(select(AttemptResponse.output)).all()


# Over HTTP ----------------------------------------------------------------------------------------


def test_an_attempt_over_http(db: Session, web: Web, model: FakeModel, react: Any) -> None:
    began = datetime.now(UTC) - timedelta(seconds=60)
    offer = offer_with(db, model.base_url, at=began)
    expert = key_for(db, web, offer.expert_id, Part.EXPERT)
    path = f"/v1/offers/ofr_{offer.id.hex}"
    sent = expert.post(
        f"{path}/attempts", json={"prompt": "What is 12345 * 67891?", "reference": "838114395"}
    )
    assert sent.status_code == 202, sent.text
    assert sent.json()["state"] == "sent"
    again = expert.post(f"{path}/attempts", json={"prompt": "2 + 2?", "reference": "4"})
    assert (again.status_code, again.json()["code"]) == (409, "attempt_open")
    assert "ask_model" in react()
    seen = expert.get(f"/v1/attempts/{sent.json()['id']}").json()
    assert seen["state"] == "responded"
    assert len(seen["responses"]) == 2
    raw = expert.get(f"/v1/attempts/{seen['id']}/evidence").json()
    for sample in raw:
        body = base64.b64decode(sample["response"])
        assert hashlib.sha256(body).hexdigest() == sample["response_digest"]
    claimed = expert.post(f"/v1/attempts/{seen['id']}/claim", json={"claims_stump": True}).json()
    assert (claimed["state"], claimed["judge_missed"]) == ("auto_judged", 2)
    handed = expert.post(
        f"{path}/submission", json={"payload": {"why": "carries"}, "attempt_id": seen["id"]}
    )
    assert handed.status_code == 201, handed.text
    stranger = make_caller(db, web, Part.EXPERT)
    for address in (f"/v1/attempts/{seen['id']}", f"/v1/attempts/{seen['id']}/evidence"):
        assert stranger.get(address).status_code == 404
    assert stranger.get(f"{path}/attempts").json()["items"] == []
    claim = stranger.post(f"/v1/attempts/{seen['id']}/claim", json={"claims_stump": True})
    assert claim.status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"prompt": "2 + 2?"}, 422, "invalid_body"),
        ({"prompt": "", "reference": "4"}, 422, "prompt_unfit"),
        ({"prompt": "2 + 2?", "reference": " "}, 422, "prompt_unfit"),
        ({"prompt": "x" * (MAX_PROMPT + 1), "reference": "4"}, 422, "prompt_unfit"),
        ({"prompt": "a\x00b", "reference": "4"}, 422, "value_unstorable"),
        ({"prompt": "2 + 2?", "reference": "4", "seed": -1}, 422, "invalid_body"),
        ({"prompt": "2 + 2?", "reference": "4", "model": "cheap"}, 422, "invalid_body"),
    ],
)
def test_a_question_that_does_not_fit_is_refused_in_words(
    db: Session, web: Web, model: FakeModel, body: dict[str, Any], status: int, code: str
) -> None:
    offer = offer_with(db, model.base_url, at=datetime.now(UTC) - timedelta(seconds=60))
    expert = key_for(db, web, offer.expert_id, Part.EXPERT)
    answer = expert.post(f"/v1/offers/ofr_{offer.id.hex}/attempts", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


# Races, and the stand-in by itself ----------------------------------------------------------------


@pytest.mark.usefixtures("committed")
def test_of_two_workers_with_one_attempt_one_asks(model: FakeModel) -> None:
    with database.begin() as session:
        offer = offer_with(session, model.base_url)
    with database.begin() as session:
        row = make_attempt(
            session, offer.id, expert_id=offer.expert_id, prompt="2 + 2?", reference="4", at=AT
        )
        attempt_id = row.id
    found = at_once([partial(ask_model, str(attempt_id))] * 2)
    assert sum(isinstance(one, LeaseHeld) for one in found) <= 1
    with database.begin() as session:
        assert session.scalars(select(Attempt.state)).one() == "responded"
        assert len(session.scalars(select(AttemptResponse)).all()) == 2
    assert model.world.count == 2


@pytest.mark.usefixtures("committed")
def test_two_attempts_at_once_cannot_spend_a_cap_twice(model: FakeModel) -> None:
    with database.begin() as session:
        first = offer_with(session, model.base_url)
    with database.begin() as session:
        project = session.get_one(Project, first.project_id)
        target = session.get_one(TargetModel, project.target_model_id)
        target.price_out_minor, target.cost_cap_minor = Decimal(10_000_000), 1280
        second = make_offer(session, make_task(session, project), make_expert(session).id)
        start_session(session, second.id, expert_id=second.expert_id, at=AT)
        made = [
            make_attempt(
                session, one.id, expert_id=one.expert_id, prompt="2 + 2?", reference="4", at=AT
            ).id
            for one in (first, second)
        ]

    def order(attempt_id: UUID) -> bool:
        with database.begin() as session:
            return take_order(session, attempt_id, at=AT) is not None

    assert sorted(map(bool, at_once([partial(order, one) for one in made]))) == [False, True]


def test_the_stand_in_runs_by_itself_with_a_recording(tmp_path: Path) -> None:
    recording = tmp_path / "recorded.jsonl"
    recording.write_text('{"prompt": "capital of France?", "outputs": ["Lyon", "Paris"]}\n')
    command = [sys.executable, "-m", "tests.fakemodel", "--port", "0"]
    with subprocess.Popen(
        [*command, "--recording", str(recording)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().split()[-1]
        said = [
            httpx.post(
                f"{base_url}/chat/completions",
                json={"messages": [{"content": "capital of France?"}], "seed": seed},
                trust_env=False,
            ).json()["choices"][0]["message"]["content"]
            for seed in range(3)
        ]
        control = base_url.removesuffix("/v1") + "/control"
        httpx.post(control, json={"fault": "500", "times": 1}, trust_env=False)
        statuses = [
            httpx.post(
                f"{base_url}/chat/completions",
                json={"messages": [{"content": "x"}]},
                trust_env=False,
            ).status_code
            for _ in range(2)
        ]
        process.terminate()
    assert said == ["Lyon", "Paris", "Lyon"]
    assert statuses == [500, 200]
