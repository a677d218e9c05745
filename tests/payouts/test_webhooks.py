"""Webhooks: only Stripe's, once, in any order, and nothing ever moves backwards."""

import hashlib
import hmac
import itertools
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import stripe as library
from sqlalchemy import func, select, text
from sqlalchemy.exc import DatabaseError, IntegrityError
from uuid_utils.compat import uuid7

from payouts import chart
from payouts.calls import plan_call
from payouts.errors import EventRefused, GatewayUnknown, SignatureRefused
from payouts.gateway import Gateway
from payouts.inbox import accounts_to_watch, catch_up, due_events, store_event, verify_signature
from payouts.models import ExternalCall, StripeEvent
from payouts.outcomes import Result
from payouts.seen import PayoutSeen
from payouts.states import CallOperation, InboxState, PayoutState
from payouts.webhooks import apply_event
from tests.fakestripe.delivery import signature
from tests.payouts.scene import API_KEY, SECRET, Letter, Scene, batched, in_the_way

BODY = json.dumps(
    {
        "id": "evt_1",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "type": "payout.paid",
        "livemode": False,
        "data": {"object": {"id": "po_1", "object": "payout"}},
    }
).encode()
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
STAMP = int(NOW.timestamp())


def signed(body: bytes = BODY, secret: str = SECRET, at: int = STAMP) -> str:
    """A header as the stand-in makes it."""
    return signature(body, [secret], at)


def test_the_stand_ins_signature_and_ours_and_the_librarys_are_the_same() -> None:
    stamp = int(time.time())
    ours = signed(at=stamp)
    assert ours == library.WebhookSignature.generate_signature_header(BODY.decode(), SECRET, stamp)
    assert library.WebhookSignature.verify_header(BODY, ours, SECRET, 300)
    verify_signature(BODY, ours, SECRET, at=datetime.fromtimestamp(stamp, UTC))


@pytest.mark.parametrize(
    ("header", "secret", "body"),
    [
        (signed(secret="whsec_other"), SECRET, BODY),
        (signed(), SECRET, BODY + b" "),
        (signed(), "", BODY),
        ("", SECRET, BODY),
        ("garbage", SECRET, BODY),
        (f"t={STAMP}", SECRET, BODY),
        (f"t=x,v1={'0' * 64}", SECRET, BODY),
        (f"t=-{STAMP},v1=00", SECRET, BODY),
        (f"t={STAMP},t={STAMP},v1=00", SECRET, BODY),
        (signed().replace("v1=", "v0="), SECRET, BODY),
        (signed(at=STAMP - 301), SECRET, BODY),
        (signed(at=STAMP + 301), SECRET, BODY),
        ("t=1,v1=aa", SECRET, b"\xff\xfe"),
    ],
    ids=[
        "another endpoint's secret",
        "changed body",
        "no secret set",
        "no header",
        "no header to speak of",
        "no mark",
        "no time",
        "negative time",
        "two times",
        "another scheme",
        "five minutes old",
        "from the future",
        "no text at all",
    ],
)
def test_a_body_that_stripe_did_not_sign_just_now_is_refused(
    header: str, secret: str, body: bytes
) -> None:
    with pytest.raises(SignatureRefused):
        verify_signature(body, header, secret, at=NOW)


def test_of_a_refused_webhook_nothing_is_kept(scene: Scene) -> None:
    forged = signed(secret="whsec_other")
    with scene.begin() as session, pytest.raises(SignatureRefused):
        store_event(session, payload=BODY, signature=forged, secret=SECRET, at=NOW)
    with scene.begin() as session:
        assert session.scalar(select(func.count()).select_from(StripeEvent)) == 0


def test_while_a_secret_is_replaced_either_signature_will_do() -> None:
    both = signature(BODY, ["whsec_new", SECRET], STAMP)
    verify_signature(BODY, both, SECRET, at=NOW)
    verify_signature(BODY, both, "whsec_new", at=NOW)


NOT_OURS = {
    "live mode": BODY.replace(b'"livemode": false', b'"livemode": true'),
    "thin": BODY.replace(b'"object": "event"', b'"object": "v2.core.event"'),
    "no type": BODY.replace(b'"type": "payout.paid"', b'"type": 5'),
    "a list": b"[1, 2]",
    "no text": b"\xff\xfe",
    "cut off": b"{",
}


def test_a_signed_body_that_is_not_for_this_endpoint_is_refused(scene: Scene) -> None:
    with scene.begin() as session:
        for name, body in NOT_OURS.items():
            assert body != BODY, name
            with pytest.raises(EventRefused):
                store_event(session, payload=body, signature=signed(body), secret=SECRET, at=NOW)


def test_the_same_webhook_is_kept_once_even_by_threads_at_once(scene: Scene) -> None:
    gate = threading.Barrier(8)
    kept: list[object] = []

    def take() -> None:
        gate.wait()
        with scene.begin() as session:
            kept.append(
                store_event(session, payload=BODY, signature=signed(), secret=SECRET, at=NOW)
            )

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len([one for one in kept if one is not None]) == 1
    assert kept.count(None) == 7


def test_the_bytes_of_a_webhook_stay_as_they_came(scene: Scene) -> None:
    with scene.begin() as session:
        event_id = store_event(session, payload=BODY, signature=signed(), secret=SECRET, at=NOW)
    with scene.begin() as session:
        assert session.get_one(StripeEvent, event_id).payload == BODY
    for change in (
        "update payouts.stripe_event set payload = ''",
        "delete from payouts.stripe_event",
    ):
        with pytest.raises(DatabaseError, match="permission denied"), scene.begin() as session:
            session.execute(text(change))


def sent_payout(scene: Scene) -> tuple[object, list[Letter]]:
    """A payout that Stripe has brought to the bank, and every webhook about it, not stored yet."""
    owner_id = scene.payee().owner_id
    scene.fund(1_000_000)
    scene.earn(owner_id, 13_316)
    payout = scene.open(owner_id)
    scene.deliver()
    assert scene.run(payout.call_id).result == Result.CONFIRMED
    scene.stripe.settle()
    letters = scene.mailbox.take()
    assert len(letters) >= 5
    return payout.id, letters


def test_every_order_of_webhooks_and_any_repeats_end_in_the_same_state(scene: Scene) -> None:
    owner_id = scene.payee().owner_id
    scene.fund(1_000_000)
    scene.deliver()
    stories = []
    for number, order in enumerate(itertools.islice(itertools.permutations(range(4)), 0, 24, 5)):
        scene.earn(owner_id, 1_000 + number)
        payout = scene.open(owner_id, datetime(2026, 11, 1 + number, tzinfo=UTC).date())
        scene.run(payout.call_id)
        scene.stripe.settle()
        letters = [
            letter for letter in scene.mailbox.take() if b'"type": "payout.' in letter.payload
        ]
        assert len(letters) == 4
        events = scene.store(letters)
        assert scene.store(letters) == []
        for position in order:
            scene.apply(events[position])
            scene.apply(events[position])
        kept = scene.payout(payout.id)
        assert kept.state == PayoutState.PAID
        stories.append(kept.state)
        assert scene.posted(chart.in_transit_to(owner_id)) == 0
    assert len(stories) == 5
    assert scene.kinds().count("payout_paid") == 5
    scene.agrees(owner_id)


def test_a_failure_that_comes_before_the_older_news_is_not_undone_by_it(scene: Scene) -> None:
    owner_id = scene.payee().owner_id
    scene.fund(1_000_000)
    scene.earn(owner_id, 900)
    payout = scene.open(owner_id)
    scene.run(payout.call_id)
    scene.stripe.settle()
    older = scene.store(scene.mailbox.take())
    (stripe_payout,) = scene.stripe.every("payout")
    scene.stripe.ask("POST", f"/_payouts/{stripe_payout['id']}/fail", code="no_account")
    scene.stripe.settle()
    newer = scene.store(scene.mailbox.take())
    for event_id in (*newer, *older):
        scene.apply(event_id)
    # Nobody saw it paid: it failed on its way, and the money is on the expert's balance.
    kept = scene.payout(payout.id)
    assert kept.state == PayoutState.FAILED
    assert "could not be found" in (kept.failure_text or "")
    assert "payout_paid" not in scene.kinds()
    assert scene.posted(chart.in_transit_to(owner_id)) == 900
    scene.agrees(owner_id)
    account_id = scene.seen(owner_id).account_id
    scene.stripe.ask("POST", f"/_accounts/{account_id}/bank")
    scene.deliver()
    assert scene.payout(payout.id).state == PayoutState.PAID
    # News of the first try, once more, says nothing about the second.
    again = scene.begin
    with again() as session:
        session.execute(
            text("update payouts.stripe_event set state = 'stored' where object_id = :it"),
            {"it": stripe_payout["id"]},
        )
    with again() as session:
        due = due_events(session, scene.now(), limit=100)
    for event_id in due:
        assert scene.apply(event_id).facts == ()
    assert scene.payout(payout.id).state == PayoutState.PAID


def test_an_event_that_comes_before_our_own_answer_confirms_the_transfer(scene: Scene) -> None:
    owner_id = scene.payee().owner_id
    scene.fund(1_000_000)
    scene.earn(owner_id, 900)
    payout = scene.open(owner_id)
    scene.stripe.fault("post /v1/transfers", "drop_after")
    assert scene.run(payout.call_id).result == Result.TRY_LATER
    applied = scene.deliver()
    assert {one.state for one in applied if one.type == "transfer.created"} == {InboxState.APPLIED}
    assert scene.kinds().count("payout_transferred") == 1
    assert scene.run(payout.call_id).result == Result.CONFIRMED
    scene.passed += timedelta(minutes=1)
    scene.deliver()
    assert scene.payout(payout.id).state == PayoutState.PAID
    scene.agrees(owner_id)


def test_an_object_that_is_not_known_is_parked_and_after_a_day_broken(scene: Scene) -> None:
    account_id = scene.gateway.create_account(
        {
            "dashboard": "express",
            "identity": {"country": "us"},
            "configuration": {"recipient": {"capabilities": {}}},
            "defaults": {
                "responsibilities": {
                    "fees_collector": "application",
                    "losses_collector": "application",
                }
            },
        },
        key=str(uuid7()),
    ).id
    applied = scene.deliver()
    assert [(one.type, one.state) for one in applied] == [
        ("v2.core.account.created", InboxState.PARKED)
    ]
    assert applied[0].retry_at is not None
    with scene.begin() as session:
        assert due_events(session, scene.now()) == []
    scene.passed += timedelta(hours=25)
    with scene.begin() as session:
        (event_id,) = due_events(session, scene.now())
    last = scene.apply(event_id)
    assert last.state == InboxState.BROKEN
    assert account_id in last.note
    with scene.begin() as session:
        assert due_events(session, scene.now()) == []


def test_an_event_of_an_unknown_type_is_kept_and_ignored(scene: Scene) -> None:
    body = BODY.replace(b"payout.paid", b"brand.new")
    with scene.begin() as session:
        event_id = store_event(session, payload=body, signature=signed(body), secret=SECRET, at=NOW)
    assert event_id is not None
    assert scene.apply(event_id).state == InboxState.IGNORED


def test_an_event_whose_object_cannot_be_fetched_stays_due(scene: Scene) -> None:
    _, letters = sent_payout(scene)
    events = scene.store([one for one in letters if b"payout.paid" in one.payload])
    scene.stripe.fault("get /v1/payouts/{payout}", "429")
    with pytest.raises(GatewayUnknown):
        scene.apply(events[0])
    scene.passed += timedelta(minutes=1)
    with scene.begin() as session:
        assert due_events(session, scene.now()) == events
    assert scene.apply(events[0]).state == InboxState.APPLIED


def test_an_event_whose_object_stripe_does_not_show_waits_longer_and_longer_for_a_day(
    scene: Scene,
) -> None:
    body = BODY.replace(b'"livemode"', b'"account": "acct_gone", "livemode"')
    at = scene.now()
    with scene.begin() as session:
        event_id = store_event(
            session,
            payload=body,
            signature=signed(body, at=int(at.timestamp())),
            secret=SECRET,
            at=at,
        )
    assert event_id is not None
    waits = []
    while (last := scene.apply(event_id)).state == InboxState.PARKED:
        assert last.retry_at is not None
        wait = last.retry_at - scene.now()
        waits.append(wait)
        with scene.begin() as session:
            assert due_events(session, scene.now()) == []
        scene.passed += wait + timedelta(seconds=1)
    assert len(waits) < 40
    assert waits[1] > timedelta(seconds=8)
    assert max(waits) <= timedelta(hours=1)
    assert last.state == InboxState.BROKEN
    assert "Stripe does not show po_1" in last.note
    with scene.begin() as session:
        assert due_events(session, scene.now() + timedelta(days=9)) == []
    # A person may have it tried again: it is told once that it is theirs.
    assert scene.apply(event_id).state == InboxState.BROKEN
    assert scene.kinds() == ["event_broken"]


def test_an_event_that_cannot_be_recorded_is_tried_again_later_and_holds_none_up(
    scene: Scene,
) -> None:
    owner_id = scene.payee().owner_id
    scene.fund(1_000_000)
    scene.earn(owner_id, 13_316)
    payout = scene.open(owner_id)
    scene.deliver()
    scene.stripe.fault("post /v1/transfers", "drop_after")
    scene.run(payout.call_id)
    scene.stripe.settle()
    (event_id,) = scene.store(
        [one for one in scene.mailbox.take() if b"transfer.created" in one.payload]
    )
    with in_the_way(scene.begin, payout), pytest.raises(IntegrityError):
        scene.apply(event_id)
    with scene.begin() as session:
        assert due_events(session, scene.now()) == []
    scene.passed += timedelta(minutes=1)
    with scene.begin() as session:
        assert due_events(session, scene.now()) == [event_id]
    assert scene.apply(event_id).state == InboxState.APPLIED


def test_events_that_were_put_off_hold_no_later_one_up(scene: Scene) -> None:
    later = BODY.replace(b"evt_1", b"evt_2")
    kept = []
    for body in (BODY, later):
        with scene.begin() as session:
            kept.append(
                store_event(session, payload=body, signature=signed(body), secret=SECRET, at=NOW)
            )
    with scene.begin() as session:
        session.get_one(StripeEvent, kept[0]).next_try_at = NOW + timedelta(hours=1)
    with scene.begin() as session:
        due = due_events(session, NOW + timedelta(hours=2), limit=1)
    assert due == kept[1:]


def test_one_fetch_answers_every_event_about_an_object_that_was_here_before_it(
    scene: Scene,
) -> None:
    payout = batched(scene)
    scene.run(payout.call_id)
    scene.deliver()
    scene.stripe.settle()
    asked: list[str] = []

    class Counting(Gateway):
        def payout(self, payout_id: str, account_id: str | None = None) -> PayoutSeen:
            asked.append(payout_id)
            return super().payout(payout_id, account_id)

    # The way of the bank from its start to its end, told by several events at once.
    with scene.begin() as session:
        about = StripeEvent.type.startswith("payout.")
        told = session.scalars(select(StripeEvent).where(about).order_by(StripeEvent.id)).all()
        assert len(told) > 2
        for event in told:
            event.state = InboxState.STORED
    counting = Counting(api_key=API_KEY, base_url=scene.stripe.url)
    applied = [
        apply_event(scene.begin, counting, event.id, now=scene.now, tell=scene.tell)
        for event in told
    ]
    assert asked == [told[0].object_id]
    assert [one.state for one in applied] == [InboxState.APPLIED] * len(told)
    assert [one.note for one in applied[1:]] == [f"told by {told[0].event_id}"] * (len(told) - 1)
    assert scene.payout(payout.id).state == PayoutState.PAID
    assert scene.kinds().count("payout_paid") == 1
    # What comes after the fetch has one of its own.
    with scene.begin() as session:
        session.get_one(StripeEvent, told[1].id).state = InboxState.STORED
    apply_event(scene.begin, counting, told[1].id, now=scene.now, tell=scene.tell)
    assert len(asked) == 2


def test_two_workers_on_one_event_tell_of_it_once(scene: Scene) -> None:
    payout_id, letters = sent_payout(scene)
    (event_id,) = scene.store([one for one in letters if b'"payout.paid"' in one.payload])
    gate = threading.Barrier(4)

    def work() -> None:
        gate.wait()
        apply_event(scene.begin, scene.gateway, event_id, now=scene.now, tell=scene.tell)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert scene.kinds().count("payout_paid") == 1
    assert str(scene.facts[-1].subject_id) == str(payout_id)


def test_a_webhook_that_never_came_is_found_in_the_list(scene: Scene) -> None:
    payout_id, letters = sent_payout(scene)
    since = scene.now() - timedelta(hours=2)
    with scene.begin() as session:
        ((account_id, listed_at),) = accounts_to_watch(session, since=since).items()
    assert listed_at is None

    def find(account_id: str | None) -> list[UUID]:
        return catch_up(
            scene.begin, scene.gateway, since=since, now=scene.now, account_id=account_id
        )

    new = find(None) + find(account_id)
    assert new
    assert find(None) + find(account_id) == []
    # Another that money went to, and that was not listed yet, is the first the next time.
    other = scene.payee().owner_id
    scene.earn(other, 900)
    assert scene.run(scene.open(other).call_id).result == Result.CONFIRMED
    with scene.begin() as session:
        watched = list(accounts_to_watch(session, since=since))
    assert watched == [scene.seen(other).account_id, account_id]
    # The webhooks come after all: they are the same events.
    assert scene.store([one for one in letters if one.endpoint == "snapshot"]) == []
    for event_id in new:
        scene.apply(event_id)
    with scene.begin() as session:
        state = session.scalar(
            text("select state from payouts.payout where id = :id").bindparams(id=payout_id)
        )
    assert state == "paid"


def test_a_refused_webhook_is_sent_again_until_it_is_taken(scene: Scene) -> None:
    scene.mailbox.refuse = 3
    scene.fund(10_000, "pm_usBankAccount_success")
    applied = scene.deliver()
    assert "payment_intent.succeeded" in {one.type for one in applied}
    assert scene.kinds()[-1] == "funding_settled"
    log = scene.stripe.ask("GET", "/_webhooks")["log"]
    assert [entry["status"] for entry in log].count(500) == 3


def test_a_transfer_of_somebody_elses_is_parked_and_books_nothing(scene: Scene) -> None:
    payee = scene.payee()
    scene.fund(100_000)
    with scene.begin() as session:
        # Only to have a key of ours; what is sent is not what was planned.
        call = plan_call(
            session,
            operation=CallOperation.TRANSFER,
            natural_key="by hand",
            subject_id=payee.id,
            params={},
            at=scene.now(),
        )
    scene.gateway.create_transfer(
        {"amount": 50, "currency": "usd", "destination": payee.account_id or ""}, key=str(call.id)
    )
    states = {one.type: one.state for one in scene.deliver()}
    assert states["transfer.created"] == InboxState.PARKED
    assert states["payout.paid"] == InboxState.PARKED
    assert scene.posted(chart.connected_balance(payee.owner_id)) == 0
    with scene.begin() as session:
        assert session.scalar(select(ExternalCall.state).where(ExternalCall.id == call.id)) == (
            "planned"
        )


def test_comparing_takes_the_mark_of_the_right_length_only() -> None:
    short = hmac.new(SECRET.encode(), f"{STAMP}.".encode() + BODY, hashlib.sha256).hexdigest()[:10]
    with pytest.raises(SignatureRefused):
        verify_signature(BODY, f"t={STAMP},v1={short}", SECRET, at=NOW)
