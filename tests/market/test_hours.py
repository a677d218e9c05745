"""The hours in which experts work: read from a clock on the wall, and a hard limit of matching."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.availability.rules import (
    AvailabilityInvalid,
    Calendar,
    TimeOff,
    Week,
    Window,
    away_of,
    not_due_before,
    room_s,
    week_of,
    windows_of,
)
from market.candidates.queries import candidates
from market.candidates.rules import id_at
from market.console.expert_self import _read_profile, _typed_profile
from market.console.visitors import FormUnreadable
from market.experts.actions import change_profile, open_hours
from market.experts.models import Expert
from market.experts.queries import profile_of
from market.explanations.queries import hindrances
from market.offers.actions import accept_offer
from market.offers.models import Offer
from market.plans.jobs import note_opened_hours
from market.policies.rules import read_policy
from market.projects.models import Project
from market.schedule import TIMETABLE
from tests.factories import AT, Caller, make_caller, make_expert, make_project, make_task
from tests.market.running import run_now

OFFICE = tuple(
    Window(day=day, starts="09:00", ends="17:00") for day in ("mon", "tue", "wed", "thu", "fri")
)
HOUR = 3600
WEEK = 7 * 1440


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def weekly(zone: str, *windows: tuple[str, str, str]) -> Calendar:
    found = [Window(day=day, starts=one, ends=two) for day, one, two in windows]  # type: ignore[arg-type]
    return Calendar(zone, week_of(found))


# Clocks -------------------------------------------------------------------------------------------


def test_windows_that_meet_are_one_and_are_told_day_by_day() -> None:
    told = (
        Window(day="sun", starts="20:00", ends="24:00"),
        Window(day="mon", starts="00:00", ends="02:00"),
        Window(day="mon", starts="01:00", ends="03:30"),
        Window(day="mon", starts="22:00", ends="24:00"),
        Window(day="tue", starts="00:00", ends="01:00"),
    )
    week = week_of(told)
    assert week == ((0, 210), (1320, 1500), (6 * 1440 + 1200, 7 * 1440))
    assert week_of(windows_of(week)) == week
    assert [(one.day, one.starts, one.ends) for one in windows_of(week)][:3] == [
        ("mon", "00:00", "03:30"),
        ("mon", "22:00", "24:00"),
        ("tue", "00:00", "01:00"),
    ]


@pytest.mark.parametrize(
    ("windows", "off"),
    [
        ([("mon", "17:00", "09:00")], []),
        ([("mon", "09:00", "09:00")], []),
        ([("mon", "09:00", "10:00")] * 51, []),
        ([], [("2026-03-02T09:00", "2026-03-02T09:00")]),
        ([], [("2026-03-03T09:00", "2026-03-02T09:00")]),
        ([], [("1999-12-31T09:00", "2026-03-02T09:00")]),
        ([], [("2026-03-02T09:00", "9999-12-31T23:59")]),
        ([], [("2026-03-02T09:00", "2026-03-03T09:00")] * 101),
    ],
)
def test_hours_that_nobody_means_are_refused(
    windows: list[tuple[str, str, str]], off: list[tuple[str, str]]
) -> None:
    def read() -> None:
        weekly("UTC", *windows)
        away_of([TimeOff(starts_at=utc(one), ends_at=utc(two)) for one, two in off])

    with pytest.raises(AvailabilityInvalid):
        read()


def test_an_hour_that_the_clocks_leave_out_is_not_there() -> None:
    # On Sunday, 29 March 2026, 02:00 in Berlin is 03:00.
    night = weekly("Europe/Berlin", ("sun", "01:00", "04:00"))
    assert night.spans(utc("2026-03-28T00:00"), utc("2026-03-30T00:00")) == [
        (utc("2026-03-29T00:00"), utc("2026-03-29T02:00"))
    ]
    left_out = weekly("Europe/Berlin", ("sun", "02:10", "02:50"))
    assert left_out.spans(utc("2026-03-28T00:00"), utc("2026-03-30T00:00")) == []


def test_an_hour_that_the_clocks_repeat_counts_twice() -> None:
    # On Sunday, 25 October 2026, 03:00 in Berlin is 02:00 once more.
    night = weekly("Europe/Berlin", ("sun", "02:00", "02:30"))
    assert night.spans(utc("2026-10-24T00:00"), utc("2026-10-26T00:00")) == [
        (utc("2026-10-25T00:00"), utc("2026-10-25T00:30")),
        (utc("2026-10-25T01:00"), utc("2026-10-25T01:30")),
    ]
    whole = weekly("Europe/Berlin", ("sun", "01:00", "04:00"))
    assert whole.open_s(utc("2026-10-24T00:00"), utc("2026-10-26T00:00")) == 4 * HOUR


def test_office_hours_stay_office_hours_when_the_clocks_change() -> None:
    office = Calendar("America/New_York", week_of(OFFICE))
    before = office.spans(utc("2026-03-06T00:00"), utc("2026-03-07T00:00"))
    after = office.spans(utc("2026-03-09T00:00"), utc("2026-03-10T00:00"))
    assert before == [(utc("2026-03-06T14:00"), utc("2026-03-06T22:00"))]
    assert after == [(utc("2026-03-09T13:00"), utc("2026-03-09T21:00"))]


def test_time_off_is_taken_out_and_what_opens_next_is_known() -> None:
    away = away_of(
        [
            TimeOff(starts_at=utc("2026-03-03T00:00"), ends_at=utc("2026-03-04T00:00")),
            TimeOff(starts_at=utc("2026-03-04T00:00"), ends_at=utc("2026-03-05T12:00")),
        ]
    )
    office = Calendar("UTC", week_of(OFFICE), away)
    assert office.spans(AT, utc("2026-03-06T00:00")) == [
        (AT, utc("2026-03-02T17:00")),
        (utc("2026-03-05T12:00"), utc("2026-03-05T17:00")),
    ]
    assert office.opens_after(AT) == utc("2026-03-05T12:00")
    assert office.reached_at(AT, utc("2026-03-06T00:00"), 9 * HOUR) == utc("2026-03-05T13:00")
    assert office.reached_at(AT, utc("2026-03-06T00:00"), 14 * HOUR) is None
    gone = Calendar("UTC", (), ((AT - timedelta(days=1), AT + timedelta(days=390)),))
    assert gone.opens_after(AT) == AT + timedelta(days=390)
    assert Calendar().opens_after(AT) is None


ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
)

MINUTES = st.integers(0, 7 * 1440 // 30).map(lambda halves: halves * 30)


@settings(max_examples=40, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    cuts=st.lists(MINUTES, min_size=2, max_size=8, unique=True),
    day=st.integers(0, 800),
    minute=st.integers(0, 1439),
    length=st.integers(1, 5 * 48),
)
def test_a_moment_is_open_if_the_clock_on_the_wall_says_so(
    zone: str, cuts: list[int], day: int, minute: int, length: int
) -> None:
    ordered = sorted(cuts)
    week: Week = tuple(zip(ordered[::2], ordered[1::2], strict=False))
    start = utc("2025-01-01T00:00") + timedelta(days=day, minutes=minute)
    end = start + timedelta(minutes=30 * length)
    spans = Calendar(zone, week).spans(start, end)
    wall = ZoneInfo(zone)
    for step in range(length * 2):
        # Off the full minutes, at which windows begin and end.
        moment = start + timedelta(minutes=15 * step, seconds=7)
        there = moment.astimezone(wall)
        shown = there.weekday() * 1440 + there.hour * 60 + there.minute
        is_open = any(first <= shown < last for first, last in week)
        assert any(first <= moment < last for first, last in spans) == is_open


def test_an_offer_leaves_time_to_answer_and_to_work() -> None:
    weekend = weekly("UTC", ("sat", "10:00", "14:00"))
    ask = {"offer_ttl_s": 24 * HOUR, "work_ttl_s": 72 * HOUR}
    assert room_s(weekend, AT, **ask) == 0
    friday = utc("2026-03-06T15:00")
    assert room_s(weekend, friday, **ask) == 4 * HOUR
    # Half an hour of Saturday to answer in is enough, a minute less is not.
    assert room_s(weekend, utc("2026-03-06T10:30"), **ask) == 4 * HOUR
    assert room_s(weekend, utc("2026-03-06T10:29"), **ask) == 0
    # Whoever says yes on Monday could not do it until Thursday, and has until Saturday.
    both = weekly("UTC", ("mon", "09:00", "11:00"), ("sat", "10:00", "14:00"))
    wide = {"offer_ttl_s": 24 * HOUR, "work_ttl_s": 5 * 24 * HOUR, "expected_s": 2 * HOUR}
    assert not_due_before(both, AT, **wide) == utc("2026-03-07T12:00")
    assert not_due_before(Calendar("UTC", week_of(OFFICE)), AT, **wide) is None


# Profiles -----------------------------------------------------------------------------------------


def test_an_expert_names_its_hours_and_reads_them_as_matching_does(
    db: Session, web: TestClient[Any]
) -> None:
    me = make_caller(db, web, Part.EXPERT)
    made = me.post(
        "/v1/experts/me",
        json={
            "timezone": "Europe/Berlin",
            "windows": [{"day": "sun", "starts": "01:00", "ends": "04:00"}],
            "time_off": [
                {"starts_at": "2026-03-29T01:30:00Z", "ends_at": "2026-03-29T04:00:00+02:00"}
            ],
        },
    )
    assert made.status_code == 201, made.text
    assert made.json()["windows"] == [{"day": "sun", "starts": "01:00", "ends": "04:00"}]
    asked = {"from": "2026-03-28T00:00:00Z", "until": "2026-03-30T00:00:00Z"}
    told = me.get("/v1/experts/me/open-hours", params=asked).json()
    assert (told["timezone"], told["open_s"]) == ("Europe/Berlin", 5400)
    assert [one["starts_there"] for one in told["spans"]] == ["2026-03-29T01:00:00+01:00"]
    assert [one["ends_there"] for one in told["spans"]] == ["2026-03-29T03:30:00+02:00"]
    version = {"If-Match": made.headers["ETag"]}
    same = me.patch("/v1/experts/me", json={"headline": "x"}, headers=version)
    assert same.json()["windows"] == made.json()["windows"]
    version = {"If-Match": same.headers["ETag"]}
    free = me.patch("/v1/experts/me", json={"windows": [], "time_off": []}, headers=version)
    assert (free.json()["windows"], free.json()["time_off"]) == ([], [])
    assert free.json()["opens_at"] is None
    wide = me.get("/v1/experts/me/open-hours", params={**asked, "until": "2026-09-30T00:00:00Z"})
    assert (wide.status_code, wide.json()["code"]) == (422, "availability_invalid")
    nobody = make_caller(db, web, Part.EXPERT).get("/v1/experts/me/open-hours")
    assert nobody.status_code == 404


def test_hours_that_do_not_fit_are_refused(db: Session, web: TestClient[Any]) -> None:
    me = make_caller(db, web, Part.EXPERT)
    hours = {"day": "mon", "starts": "09:00", "ends": "17:00"}
    for field, told, code in (
        ("windows", {**hours, "ends": "08:00"}, "availability_invalid"),
        ("windows", {**hours, "starts": "9:00"}, "invalid_body"),
        ("windows", {**hours, "day": "monday"}, "invalid_body"),
        ("windows", {**hours, "ends": "24:01"}, "invalid_body"),
        ("time_off", {"starts_at": "2026-03-29T01:30:00", "ends_at": "x"}, "invalid_body"),
    ):
        answer = me.post("/v1/experts/me", json={field: [told]})
        assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text


def take_in(ops: Caller, body: bytes, form: str, key: str) -> dict[str, Any]:
    answer = ops.post(
        "/v1/experts:import",
        content=body,
        headers={"Content-Type": form, "Idempotency-Key": key},
    )
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_hours_come_with_a_file_and_a_second_time_they_are_the_same(
    db: Session, web: TestClient[Any]
) -> None:
    ops = make_caller(db, web, Part.OPS)
    hours = [{"day": "mon", "starts": "09:00", "ends": "17:00"}]
    off = [{"starts_at": "2026-03-29T01:30:00+02:00", "ends_at": "2026-03-30T00:00:00Z"}]
    good = {"email": "a@x.example", "name": "A", "windows": hours, "time_off": off}
    bad = [{**hours[0], "ends": "08:00"}]
    rows = [good, {"email": "b@x.example", "name": "B", "windows": bad}]
    body = "\n".join(json.dumps(row) for row in rows).encode()
    told = take_in(ops, body, "application/x-ndjson", "a")
    assert (told["created"], told["rejected"]) == (1, 1)
    assert told["first_refused"][0]["pointer"] == "/windows"
    found = db.scalars(select(Expert).where(Expert.source.like("imp_%"))).one()
    kept = profile_of(db, found)
    assert kept.week == ((540, 1020),)
    assert kept.away == ((utc("2026-03-28T23:30"), utc("2026-03-30T00:00")),)
    assert found.opens_at is not None
    again = take_in(ops, body, "application/x-ndjson", "b")
    assert (again["created"], again["unchanged"]) == (0, 1)
    other = json.dumps({**good, "windows": []}).encode()
    assert take_in(ops, other, "application/x-ndjson", "c")["conflicts"] == 1
    cell = json.dumps(hours).replace('"', '""')
    table = f'email,name,windows\nc@x.example,C,"{cell}"\n'.encode()
    assert take_in(ops, table, "text/csv", "d")["created"] == 1


# Matching -----------------------------------------------------------------------------------------

BALANCED = read_policy({})


def stretch(at: datetime, minutes: int) -> Week:
    """A week that is open for so long from the minute of a moment on."""
    first = at.weekday() * 1440 + at.hour * 60 + at.minute
    last = first + minutes
    if last <= WEEK:
        return ((first, last),)
    return ((0, last - WEEK), (first, WEEK))


def fits(db: Session, project: Project, at: datetime) -> set[UUID]:
    seen = candidates(db, BALANCED, project_id=project.id, at=at)
    return {id_at(seen.expert_ids, expert) for expert in seen.pair_expert.tolist()}


def test_nobody_is_a_candidate_for_work_that_its_hours_do_not_hold(db: Session) -> None:
    project = make_project(db)
    task = make_task(db, project, expected_s=2 * HOUR)
    always = make_expert(db)
    office = make_expert(db, week=week_of(OFFICE), timezone="America/New_York")
    short = make_expert(db, week=week_of([Window(day="mon", starts="10:00", ends="11:30")]))
    away = make_expert(db, away=((AT - timedelta(days=1), AT + timedelta(days=9)),))
    assert fits(db, project, AT) == {always.id, office.id}
    assert fits(db, project, AT + timedelta(days=8, hours=10)) == {always.id, office.id, away.id}
    # On a Friday night nobody in an office answers within a day.
    assert fits(db, project, utc("2026-03-07T00:00")) == {always.id}
    assert hindrances(db, task.id, office.id, at=AT) == []
    assert hindrances(db, task.id, short.id, at=AT) == [
        "the expert's hours leave 1.5 of the 2.0 hours that the task takes"
    ]
    assert hindrances(db, task.id, away.id, at=AT) == [
        "the expert's hours leave 0.0 of the 2.0 hours that the task takes"
    ]


def test_a_plan_gives_nobody_more_than_its_open_hours(db: Session) -> None:
    project = make_project(db, budget_minor=100_000_000)
    for _ in range(4):
        make_task(db, project, expected_s=2 * HOUR)
    at = datetime.now(UTC)
    week = stretch(at, 301)
    expert = make_expert(db, week=week, max_concurrent=9, weekly_hours=40)
    seen = candidates(db, BALANCED, project_id=project.id, at=at)
    assert 5 <= seen.expert_hours[0] <= 5.1
    run_now(db)
    made = db.scalars(select(Offer).where(Offer.expert_id == expert.id)).all()
    assert len(made) == 2
    # What it holds has to lie in the same hours.
    again = candidates(db, BALANCED, project_id=project.id, at=at)
    assert 1 <= again.expert_hours[0] <= 1.1


def test_work_is_not_due_before_its_experts_hours_come(db: Session) -> None:
    project = make_project(db, work_ttl_s=5 * 24 * HOUR)
    make_task(db, project, expected_s=2 * HOUR)
    at = datetime.now(UTC)
    later = at + timedelta(days=5)
    expert = make_expert(db, week=tuple(sorted(stretch(at, 150) + stretch(later, 240))))
    run_now(db)
    offer = db.scalars(select(Offer).where(Offer.expert_id == expert.id)).one()
    floor = datetime.fromisoformat(str(offer.terms["not_due_before"]))
    assert floor == later.replace(second=0, microsecond=0) + timedelta(hours=2)
    taken = accept_offer(db, offer.id, expert_id=expert.id, at=offer.created_at)
    assert taken.lease_until == floor


def test_an_opening_is_noted_once(db: Session) -> None:
    expert = make_expert(db, week=week_of(OFFICE))
    assert expert.opens_at == utc("2026-03-03T09:00")
    assert open_hours(db, at=utc("2026-03-03T08:59"), limit=9) == []
    assert open_hours(db, at=utc("2026-03-03T09:00"), limit=9) == [expert.id]
    assert open_hours(db, at=utc("2026-03-03T09:00"), limit=9) == []
    assert expert.opens_at == utc("2026-03-04T09:00")
    free = profile_of(db, expert)
    changed = change_profile(db, expert.id, type(free)(claims=free.claims), at=AT)
    assert (changed.opens_at, profile_of(db, changed).week) == (None, ())
    assert [one.every for one in TIMETABLE if one.job is note_opened_hours] == [
        timedelta(minutes=1)
    ]


def test_the_hours_of_a_profile_are_typed_and_shown_as_a_line_each() -> None:
    typed = {
        "timezone": "Europe/Berlin",
        "windows": "mon-fri 09:00-17:00\nsat 10:00-12:00",
        "time_off": "2026-12-24 to 2026-12-26\n2027-01-04 12:00 to 2027-01-04 18:00",
    }
    profile = _read_profile(typed)
    assert len(profile.week) == 6
    assert profile.away[0] == (utc("2026-12-23T23:00"), utc("2026-12-26T23:00"))
    shown = _typed_profile(profile)
    assert shown["time_off"].splitlines()[0] == "2026-12-24 00:00 to 2026-12-27 00:00"
    assert _read_profile({**typed, **shown}) == profile
    for field, line in (
        ("windows", "monday 9-17"),
        ("windows", "fri-mon"),
        ("time_off", "tomorrow"),
        ("time_off", "9999-12-31"),
        ("timezone", "Mars/Olympus"),
    ):
        with pytest.raises(FormUnreadable):
            _read_profile({**typed, field: line})
