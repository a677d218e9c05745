"""What is owed, on its way to the bank: payees, runs, holds, transfers and webhooks."""

import json
import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from market.approvals.actions import approve_lines
from market.auth import Part
from market.books.jobs import prove_books
from market.books.queries import EVERY_INVARIANT
from market.earnings.actions import accrue_earning
from market.events import Event
from market.settings import in_force
from market.treasury.actions import ask_for_more, hold_policy
from market.treasury.jobs import (
    catch_up_stripe,
    open_weekly_payouts,
    review_held_payouts,
    run_payouts,
    send_payout,
    sweep_stripe,
)
from market.treasury.models import PayoutRun
from market.treasury.rules import PAYOUT_RUN, differences
from payouts import chart
from payouts.errors import EventUnclear, PayoutStateConflict
from payouts.inbox import store_event
from payouts.models import ExternalCall, Payout
from payouts.opening import open_payouts
from payouts.payees import payee_of
from payouts.proof_models import Break
from payouts.seen import BalanceSeen
from payouts.transfers import move_payout
from tests.factories import (
    AT,
    Caller,
    make_project,
    make_task,
    pairs_in_database,
)
from tests.fakestripe.delivery import signature
from tests.market.earned import end_offer, make_active_offer, work_on
from tests.market.house import MONDAY, House
from tests.market.test_console import come_in
from tests.payouts.scene import SECRET, in_the_way

HOUR = 3600


def earn(house: House, expert: Caller, seconds: int = 2 * HOUR, *, since: datetime = AT) -> int:
    """Time that was worked on a project with settled money, credited; what it pays."""
    at = datetime.now(UTC)
    with house.begin() as session:
        project = make_project(session)
        offer = make_active_offer(
            session, project, make_task(session, project), expert.person_id, at=at
        )
        work_on(session, offer, since, seconds)
        end_offer(session, offer)
        lines = accrue_earning(session, offer.id, at=at)
        return sum(line.pay_minor for line in lines)


def paid_in(house: House) -> None:
    """Money at Stripe for transfers to be made of."""
    lab = house.caller(Part.LAB)
    house.fund(lab, 5_000_000)
    house.hear()


def test_what_was_earned_is_in_the_bank_after_a_run(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    house.become_payee(expert)
    assert expert.get("/v1/payees/me").json() == {"is_ready": True, "missing": []}
    assert earn(house, expert) == 4400
    owed = expert.get("/v1/earnings/balance").json()
    figures = [owed[0][name]["amount_minor"] for name in ("free", "in_payouts", "in_review")]
    assert figures == [0, 0, 4400]

    done = house.pay_out(ops)
    assert (done["state"], done["result"]) == (
        "succeeded",
        {"payouts": 1, "held": 0, "total_minor": {"USD": 4400}},
    )
    (payout,) = expert.get("/v1/payouts").json()["items"]
    assert (payout["state"], payout["amount"]["amount_minor"]) == ("transferred", 4400)
    (line,) = expert.get("/v1/earnings").json()["items"]
    assert (line["state"], line["payout_id"]) == ("transferred", payout["id"])

    house.hear()
    found = expert.get(f"/v1/payouts/{payout['id']}").json()
    assert (found["state"], found["holds"]) == ("paid", [])
    assert expert.get("/v1/earnings").json()["items"][0]["state"] == "paid"
    assert house.posted(chart.owed_to(expert.person_id)) == 0
    assert house.posted(chart.in_transit_to(expert.person_id)) == 0
    assert len(house.events(Event.PAYOUT_PAID)) == 1
    assert len(house.stripe.every("transfer")) == 1


def test_a_run_twice_and_its_jobs_twice_pay_once(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    house.become_payee(expert)
    earn(house, expert)
    house.pay_out(ops, key="first")
    house.pay_out(ops, key="second")
    with house.begin() as session:
        runs = session.scalars(select(PayoutRun.id)).all()
        (payout,) = session.scalars(select(Payout)).all()
    assert len(runs) == 2
    for run_id in runs:
        run_payouts(str(run_id))
    send_payout(str(payout.id))
    house.hear()
    assert len(house.stripe.every("transfer")) == 1
    assert house.posted(chart.owed_to(expert.person_id)) == 0


def test_the_same_key_is_the_same_run(house: House) -> None:
    ops = house.caller(Part.OPS)
    body = {"period_end": MONDAY.isoformat()}
    assert ops.post("/v1/payout-runs", json=body).json()["code"] == "idempotency_key_missing"
    keyed = {"Idempotency-Key": "k"}
    first = ops.post("/v1/payout-runs", json=body, headers=keyed)
    again = ops.post("/v1/payout-runs", json=body, headers=keyed)
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"]
    other = {"period_end": (MONDAY - timedelta(days=7)).isoformat()}
    refused = ops.post("/v1/payout-runs", json=other, headers=keyed)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert len(ops.get("/v1/payout-runs").json()["items"]) == 1


@pytest.mark.parametrize("days", [1, 7])
def test_a_period_ends_on_a_monday_that_has_come(house: House, days: int) -> None:
    ops = house.caller(Part.OPS)
    body = {"period_end": (MONDAY + timedelta(days=days)).isoformat()}
    refused = ops.post("/v1/payout-runs", json=body, headers={"Idempotency-Key": "k"})
    assert (refused.status_code, refused.json()["code"]) == (422, "period_end_invalid")
    assert refused.json()["latest"] == MONDAY.isoformat()


def test_who_is_no_payee_yet_reads_why_nothing_comes(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    assert expert.get("/v1/payees/me").json()["code"] == "not_a_payee"
    earn(house, expert)
    assert house.pay_out(ops)["result"]["held"] == 1
    (payout,) = expert.get("/v1/payouts?state=held").json()["items"]
    (hold,) = payout["holds"]
    assert (hold["code"], hold["acts"]) == ("payee_requirements", "expert")
    assert "set up your payouts" in hold["text"]
    # Nothing else is to be done: it goes as soon as the expert can be paid.
    house.become_payee(expert)
    house.hear()
    assert expert.get(f"/v1/payouts/{payout['id']}").json()["state"] == "paid"


def test_ops_end_a_hold_and_the_reason_comes_back_while_it_stands(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    earn(house, expert)
    house.pay_out(ops)
    (payout,) = ops.get("/v1/payouts").json()["items"]
    address = f"/v1/payout-holds/{payout['holds'][0]['id']}/end"
    assert ops.post(address, json={"note": "ok"}).json()["code"] == "note_missing"
    after = ops.post(address, json={"note": "looked at it, may go"}).json()
    assert (after["state"], len(after["holds"])) == ("held", 1)
    assert ops.post(address, json={"note": "looked at it, may go"}).status_code == 404
    assert expert.post(address, json={"note": "let me have it"}).status_code == 403


def test_nobody_reads_anothers_payout(house: House) -> None:
    paid_in(house)
    expert, other, ops = house.expert(), house.expert(), house.caller(Part.OPS)
    earn(house, expert)
    house.pay_out(ops)
    (payout,) = expert.get("/v1/payouts").json()["items"]
    assert other.get(f"/v1/payouts/{payout['id']}").status_code == 404
    assert other.get("/v1/payouts").json()["items"] == []
    assert other.get("/v1/earnings/balance").json() == []
    lab = house.caller(Part.LAB)
    assert lab.get("/v1/payouts").status_code == 403
    assert expert.get("/v1/payout-runs").status_code == 403
    assert expert.get("/v1/ledger/trial-balance").status_code == 403


def test_late_minutes_of_a_week_that_was_paid_go_with_the_next_payout(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    house.become_payee(expert)
    earn(house, expert)
    house.pay_out(ops, period_end=MONDAY - timedelta(days=7), key="on-time")
    earn(house, expert, HOUR, since=AT + timedelta(days=1))
    house.pay_out(ops, key="late")
    late, first = expert.get("/v1/earnings").json()["items"]
    assert late["week"] == first["week"]
    assert late["payout_id"] != first["payout_id"]
    assert [one["state"] for one in (late, first)] == ["transferred", "transferred"]
    assert house.posted(chart.owed_to(expert.person_id)) == 0


def test_a_line_that_waits_for_its_approval_goes_with_a_later_payout(house: House) -> None:
    expert, ops = house.expert(), house.caller(Part.OPS)
    earn(house, expert)
    house.approve()
    waiting = earn(house, expert, HOUR, since=AT + timedelta(days=1))
    body = {"period_end": MONDAY.isoformat()}
    ops.post("/v1/payout-runs", json=body, headers={"Idempotency-Key": "k"})
    house.react()
    (payout,) = expert.get("/v1/payouts").json()["items"]
    lines = expert.get("/v1/earnings").json()["items"]
    taken = {line["state"]: line["payout_id"] for line in lines}
    assert taken == {"held": payout["id"], "accrued": None}
    assert payout["amount"]["amount_minor"] == sum(one["pay_minor"] for one in lines) - waiting


def test_a_sender_whose_time_was_over_has_the_next_one_sent(house: House) -> None:
    paid_in(house)
    experts = [house.expert(), house.expert()]
    for one in experts:
        house.become_payee(one)
        earn(house, one)
    house.approve()
    with house.begin() as session:
        owners = [(one.person_id, "USD") for one in experts]
        opened = open_payouts(
            session, owners, period_end=MONDAY, at=datetime.now(UTC), policy=hold_policy()
        )
        assert len(opened.new) == 2
        # Whoever planned them told nobody: the jobs of these two are lost.
        left = ask_for_more(session, at=datetime.now(UTC))
    assert left == min(opened.new, key=lambda one: one.call_id or one.id).id
    assert "send_payout" in house.react()
    assert len(house.stripe.every("transfer")) == 2
    with house.begin() as session:
        assert ask_for_more(session, at=datetime.now(UTC)) is None


def test_a_country_is_two_letters(house: House) -> None:
    expert = house.expert()
    refused = expert.post("/v1/payees/me", json={"country": "USA"})
    assert (refused.status_code, refused.json()["code"]) == (422, "country_invalid")


def test_a_country_that_stripe_asks_more_for_is_refused_before_anything_is_opened(
    house: House,
) -> None:
    expert = house.expert()
    refused = expert.post("/v1/payees/me", json={"country": "KE"})
    assert (refused.status_code, refused.json()["code"]) == (422, "country_out_of_reach")
    assert "one of AT, BE, " in refused.json()["detail"]
    assert "is kept for you" in refused.json()["detail"]
    # Nothing was written, so that another country can still be named.
    assert expert.post("/v1/payees/me", json={"country": "DE"}).status_code == 201


def test_what_keeps_pay_away_is_read_with_the_offer_before_any_work(house: House) -> None:
    expert = house.expert()
    with house.begin() as session:
        project = make_project(session)
        task = make_task(session, project)
        now = datetime.now(UTC)
        offer = make_active_offer(session, project, task, expert.person_id, at=now)
        path = f"/v1/offers/ofr_{offer.id.hex}"
    (said,) = expert.get(path).json()["pay_blocks"]
    assert said.startswith("You have not said where you are paid")
    come_in(house.web, expert)
    assert "Before you begin." in house.web.get("/console/expert").text
    expert.post("/v1/payees/me", json={"country": "US"})
    house.react()
    blocks = expert.get(path).json()["pay_blocks"]
    assert "Stripe still needs a bank account to be paid to." in blocks
    house.become_payee(expert)
    assert expert.get(path).json()["pay_blocks"] == []
    assert "Before you begin." not in house.web.get("/console/expert").text


def test_onboarding_is_a_page_of_stripes_for_a_few_minutes(house: House) -> None:
    expert = house.expert()
    address = "/v1/payees/me/onboarding-link"
    assert expert.put(address).json()["code"] == "not_a_payee"
    expert.post("/v1/payees/me", json={"country": "US"})
    assert expert.put(address).json()["code"] == "onboarding_not_ready"
    house.react()
    assert expert.get("/v1/payees/me").json()["is_ready"] is False
    assert expert.get("/v1/payees/me").json()["missing"]
    assert expert.put(address).json()["url"].startswith("http")


def test_a_webhook_is_kept_once_and_only_from_stripe(house: House) -> None:
    lab = house.caller(Part.LAB)
    house.fund(lab, 10_000, "pm_usBankAccount_success")
    house.react()
    house.stripe.settle()
    letters = house.mailbox.take()
    assert letters
    for letter in letters:
        assert house.receive(letter) == 200
        # Stripe may send again what it has sent.
        assert house.receive(letter) == 200
        forged = type(letter)(letter.endpoint, letter.payload + b" ", letter.signature)
        assert house.receive(forged) == 400
        unsigned = type(letter)(letter.endpoint, letter.payload, "")
        assert house.receive(unsigned) == 400
    assert len(house.events(Event.STRIPE_EVENT_RECEIVED)) == len(letters)
    house.react()
    assert lab.get("/v1/fundings").json()["items"][0]["state"] == "succeeded"


def test_webhooks_that_never_came_are_caught_up_with(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    house.become_payee(expert)
    earn(house, expert)
    house.pay_out(ops)
    house.stripe.settle()
    house.mailbox.take()
    assert expert.get("/v1/payouts").json()["items"][0]["state"] == "transferred"
    catch_up_stripe(datetime.now(UTC).isoformat())
    house.react()
    assert expert.get("/v1/payouts").json()["items"][0]["state"] == "paid"


def test_after_a_long_silence_all_of_it_is_caught_up_with(house: House) -> None:
    catch_up_stripe(datetime.now(UTC).isoformat())
    lab = house.caller(Part.LAB)
    house.fund(lab, 10_000, "pm_card_visa")
    house.stripe.settle()
    house.mailbox.take()
    house.react()
    assert lab.get("/v1/fundings").json()["items"][0]["state"] == "received"
    # Ten hours later, of which the hourly look reaches back three.
    house.stripe.advance(timedelta(hours=10).total_seconds())
    catch_up_stripe((datetime.now(UTC) + timedelta(hours=10)).isoformat())
    house.react()
    assert lab.get("/v1/fundings").json()["items"][0]["state"] == "succeeded"


def test_who_is_ready_at_stripe_is_paid_though_its_word_was_lost(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    expert.post("/v1/payees/me", json={"country": "US"})
    house.react()
    earn(house, expert)
    assert house.pay_out(ops)["result"]["held"] == 1
    with house.begin() as session:
        payee = payee_of(session, expert.person_id)
    assert payee is not None
    assert payee.account_id is not None
    house.stripe.onboard(payee.account_id)
    house.stripe.settle()
    house.mailbox.take()
    house.react()
    assert expert.get("/v1/payouts").json()["items"][0]["state"] == "held"
    review_held_payouts("2026-01-05T00:00:00+00:00")
    house.hear()
    assert expert.get("/v1/payouts").json()["items"][0]["state"] == "paid"


def test_a_job_that_was_lost_is_made_up_for_by_the_sweep(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    house.become_payee(expert)
    earn(house, expert)
    house.approve()
    body = {"period_end": MONDAY.isoformat()}
    answer = ops.post("/v1/payout-runs", json=body, headers={"Idempotency-Key": "k"})
    # The run's own job, and then a crash: the payout's event is never relayed.
    run_payouts(str(UUID(answer.json()["id"].removeprefix("prn_"))))
    sweep_stripe("2026-01-05T00:00:00+00:00")
    assert len(house.stripe.every("transfer")) == 1
    assert expert.get("/v1/payouts").json()["items"][0]["state"] == "transferred"


def test_what_cannot_be_recorded_holds_nothing_else_up_in_the_sweep(house: House) -> None:
    paid_in(house)
    expert, ops, lab = house.expert(), house.caller(Part.OPS), house.caller(Part.LAB)
    house.become_payee(expert)
    earn(house, expert)
    house.approve()
    body = {"period_end": MONDAY.isoformat()}
    answer = ops.post("/v1/payout-runs", json=body, headers={"Idempotency-Key": "k"})
    run_payouts(str(UUID(answer.json()["id"].removeprefix("prn_"))))
    # Its transfer is planned and goes; but where it stands meanwhile, it cannot have been sent.
    with house.begin() as session:
        payout = session.scalars(select(Payout)).one()
        move_payout(session, payout, "refuse", at=datetime.now(UTC))
    house.fund(lab, 10_000)
    with pytest.raises(PayoutStateConflict):
        sweep_stripe("2026-01-05T00:00:00+00:00")
    assert len(house.stripe.every("payment_intent")) == 2
    with house.begin() as session:
        payout = session.scalars(select(Payout)).one()
        for action in ("batch", "send"):
            move_payout(session, payout, action, at=datetime.now(UTC))
        call = session.scalars(
            select(ExternalCall).where(ExternalCall.id == payout.call_id).with_for_update()
        ).one()
        # A minute has passed.
        call.leased_until = datetime.now(UTC)
    sweep_stripe("2026-01-05T00:00:00+00:00")
    assert expert.get("/v1/payouts").json()["items"][0]["state"] == "transferred"
    house.hear()


def test_a_row_that_the_database_refuses_holds_nothing_else_up_in_the_sweep(house: House) -> None:
    paid_in(house)
    expert, ops, lab = house.expert(), house.caller(Part.OPS), house.caller(Part.LAB)
    house.become_payee(expert)
    earn(house, expert)
    house.approve()
    body = {"period_end": MONDAY.isoformat()}
    answer = ops.post("/v1/payout-runs", json=body, headers={"Idempotency-Key": "k"})
    run_payouts(str(UUID(answer.json()["id"].removeprefix("prn_"))))
    with house.begin() as session:
        payout = session.scalars(select(Payout)).one()
    house.fund(lab, 10_000)
    with in_the_way(house.begin, payout), pytest.raises(IntegrityError):
        sweep_stripe("2026-01-05T00:00:00+00:00")
    assert len(house.stripe.every("payment_intent")) == 2


def test_an_event_that_stripe_never_shows_dies_as_a_job_where_ops_find_it(house: House) -> None:
    body = {
        "id": "evt_1",
        "object": "event",
        "type": "transfer.created",
        "livemode": False,
        "data": {"object": {"id": "tr_gone"}},
    }
    payload = json.dumps(body).encode()
    at = datetime.now(UTC) - timedelta(days=2)
    with house.begin() as session:
        mark = signature(payload, [SECRET], int(at.timestamp()))
        store_event(session, payload=payload, signature=mark, secret=SECRET, at=at)
    sweep_stripe("2026-01-05T00:00:00+00:00")
    # Once more, as a job of its own, which ops may run again when its reason has gone.
    with pytest.raises(EventUnclear, match="Stripe does not show tr_gone"):
        house.react()
    assert house.react() == []


def test_a_market_without_a_key_to_stripe_has_nothing_to_sweep(house: House) -> None:
    paid_in(house)
    earn(house, house.expert())
    house.approve()
    house.pay_out(house.caller(Part.OPS))
    in_force.open(msgspec.structs.replace(in_force.settings, stripe_key=""))
    sweep_stripe("2026-01-05T00:00:00+00:00")
    # The payout waits for where it is to go, which is not asked for either.
    review_held_payouts("2026-01-05T00:00:00+00:00")


def test_a_run_that_died_half_way_goes_on_where_it_was(house: House) -> None:
    paid_in(house)
    experts = [house.expert() for _ in range(3)]
    for expert in experts:
        house.become_payee(expert)
        earn(house, expert)
    house.approve()
    ops = house.caller(Part.OPS)
    body = {"period_end": MONDAY.isoformat()}
    answer = ops.post("/v1/payout-runs", json=body, headers={"Idempotency-Key": "k"})
    run_id = UUID(answer.json()["id"].removeprefix("prn_"))
    # Two workers at once stand for one that was thought dead and was not.
    both = [threading.Thread(target=run_payouts, args=(str(run_id),)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    house.hear()
    assert len(house.stripe.every("transfer")) == 3
    found = ops.get(f"/v1/payout-runs/prn_{run_id.hex}").json()
    assert (found["state"], found["payouts"]) == ("succeeded", 3)


def test_one_who_cannot_be_paid_costs_nobody_else_its_payday(house: House) -> None:
    paid_in(house)
    experts = [house.expert() for _ in range(3)]
    for expert in experts:
        earn(house, expert)
    house.approve()
    body = {"period_end": MONDAY.isoformat()}
    ops = house.caller(Part.OPS)
    answer = ops.post("/v1/payout-runs", json=body, headers={"Idempotency-Key": "k"})
    run_id = answer.json()["id"].removeprefix("prn_")
    refuse = "alter table payouts.payout {} constraint poison {}"
    others = f"check (owner_id <> '{experts[1].person_id}') not valid"
    as_owner(house, refuse.format("add", others))
    try:
        with pytest.raises(IntegrityError):
            run_payouts(str(UUID(run_id)))
    finally:
        as_owner(house, refuse.format("drop", ""))
    paid = [bool(one.get("/v1/payouts").json()["items"]) for one in experts]
    assert paid == [True, False, True]
    # It is run again by whoever sees that it failed.
    run_payouts(str(UUID(run_id)))
    assert len(experts[1].get("/v1/payouts").json()["items"]) == 1
    found = ops.get(f"/v1/payout-runs/prn_{run_id}").json()
    assert (found["state"], found["payouts"]) == ("succeeded", 3)


def as_owner(house: House, statement: str) -> None:
    """Change a table, as only whoever owns it may."""
    with house.begin() as session:
        session.execute(text("reset role"))
        session.execute(text(statement))


def test_the_clock_asks_once_for_a_week(house: House) -> None:
    wednesday = datetime(2026, 3, 4, 18, tzinfo=UTC)
    open_weekly_payouts(wednesday.isoformat())
    open_weekly_payouts(wednesday.isoformat())
    assert house.react() == ["run_payouts"]
    with house.begin() as session:
        (run,) = session.scalars(select(PayoutRun)).all()
    assert (run.period_end, run.state) == (AT.date(), "succeeded")


def test_pay_credited_while_a_run_pays_waits_for_the_next(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    house.become_payee(expert)
    threads = [threading.Thread(target=earn_once, args=(house, expert, n)) for n in range(6)]
    for thread in threads[:3]:
        thread.start()
    house.pay_out(ops)
    for thread in threads[3:]:
        thread.start()
    for thread in threads:
        thread.join()
    with house.begin() as session:
        payouts = session.scalars(select(Payout)).all()
    lines = expert.get("/v1/earnings").json()["items"]
    assert len(lines) == 6
    for payout in payouts:
        taken = [one["pay_minor"] for one in lines if one["payout_id"] == f"pay_{payout.id.hex}"]
        assert sum(taken) == payout.amount_minor
    waiting = [one["pay_minor"] for one in lines if one["payout_id"] is None]
    owed = expert.get("/v1/earnings/balance").json()[0]
    left = owed["free"]["amount_minor"] + owed["in_review"]["amount_minor"]
    assert left == sum(waiting)


def earn_once(house: House, expert: Caller, n: int) -> None:
    """An hour of work, each in an hour of its own so that no two overlap; then its credit."""
    at = datetime.now(UTC)
    with house.begin() as session:
        project = make_project(session)
        task = make_task(session, project)
        offer = make_active_offer(session, project, task, expert.person_id, at=at)
        work_on(session, offer, AT + timedelta(hours=n), HOUR)
        end_offer(session, offer)
    with house.begin() as session:
        lines = [line.id for line in accrue_earning(session, offer.id, at=at)]
        approve_lines(session, expert.person_id, lines, at=at)


def test_the_books_are_open_to_ops_and_balance(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    earn(house, expert)
    rows = ops.get("/v1/ledger/trial-balance").json()
    assert sum(row["debit_minor"] for row in rows) == sum(row["credit_minor"] for row in rows) > 0
    before = ops.get("/v1/ledger/invariants").json()
    assert {one["broken_by"] for one in before["invariants"]} == {None}
    asked = ops.post("/v1/ledger/checks")
    assert asked.status_code == 202
    assert ops.post("/v1/ledger/checks").json() == asked.json()
    house.react()
    assert ops.get(asked.headers["location"]).json()["state"] == "succeeded"
    found = ops.get("/v1/ledger/invariants").json()
    assert (found["violations"], found["checked_at"] is not None) == (0, True)
    assert [(one["id"], one["broken_by"]) for one in found["invariants"]] == [
        (invariant, []) for invariant in EVERY_INVARIANT
    ]


def test_the_database_knows_the_moves_of_a_run(house: House) -> None:
    with house.begin() as session:
        assert pairs_in_database(session, PAYOUT_RUN) == PAYOUT_RUN.pairs()


@pytest.mark.parametrize(
    ("before", "after", "available", "pending", "found"),
    [
        ({"USD": 100}, {"USD": 100}, {"USD": 60}, {"USD": 40}, 0),
        ({"USD": 100}, {"USD": 90}, {"USD": 90}, {}, 0),
        ({"USD": 100}, {"USD": 100}, {"USD": 99}, {}, 1),
        ({"USD": 100}, {"USD": 100}, {"USD": 100, "EUR": 5}, {}, 1),
        ({"USD": 7}, {"USD": 7}, {}, {}, 1),
        ({}, {}, {}, {}, 0),
    ],
)
def test_what_stripe_holds_is_compared_with_the_books_by_currency(
    before: dict[str, int],
    after: dict[str, int],
    available: dict[str, int],
    pending: dict[str, int],
    found: int,
) -> None:
    seen = BalanceSeen(available=available, pending=pending)
    assert len(differences(before, after, seen)) == found


def test_an_expert_reads_what_stripe_made_of_its_pay_in_another_currency(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    house.become_payee(expert)
    with house.begin() as session:
        payee = payee_of(session, expert.person_id)
        assert payee is not None
        account_id = payee.account_id
    house.stripe.ask("POST", f"/_accounts/{account_id}/currency", currency="eur")
    house.stripe.ask("POST", "/_rates", **{"from": "usd", "to": "eur", "rate": "0.875"})
    earn(house, expert)
    house.pay_out(ops)
    house.hear()
    (payout,) = expert.get("/v1/payouts").json()["items"]
    assert (payout["state"], payout["amount"]["amount_minor"]) == ("paid", 4400)
    arrived = payout["arrived"]
    assert (arrived["arrived"], arrived["rate"], arrived["source"]) == (
        {"amount_minor": 3850, "currency": "EUR"},
        "0.875",
        "stripe",
    )
    assert arrived["text"].startswith("USD 44.00 arrived as EUR 38.50: Stripe changed it on ")
    told = expert.get("/v1/statement").json()["conversions"]
    assert told == [arrived]
    for reader, path in (
        (expert, "expert/earnings"),
        (expert, "expert/statement"),
        (ops, f"ops/money/payouts/{payout['id']}"),
    ):
        come_in(house.web, reader)
        assert "USD 44.00 arrived as EUR 38.50" in house.web.get(f"/console/{path}").text
    prove_books("now")
    with house.begin() as session:
        mine = Break.place == str(expert.person_id)
        assert session.scalars(select(Break).where(mine)).all() == []
