"""Payees: opened once, told in words what is missing, and ready when Stripe says so."""

from uuid import uuid4

import httpx
import pytest

from payouts.decisions import resolve_unknown
from payouts.errors import PayeeNotReady, UnknownPayee
from payouts.models import ExternalCall, Payee
from payouts.outcomes import Result
from payouts.payees import (
    ensure_payee,
    in_words,
    payee_state,
    plan_onboarding_link,
)
from payouts.states import CallState
from tests.payouts.scene import Scene

ACCOUNTS = "post /v2/core/accounts"


def test_a_payee_is_opened_once_however_often_they_are_asked_for(scene: Scene) -> None:
    owner_id = uuid4()
    for email in ("a@example.com", "b@example.com"):
        with scene.begin() as session:
            payee = ensure_payee(
                session, owner_id=owner_id, country="us", email=email, at=scene.now()
            )
        assert scene.run(payee.account_call_id).result == Result.CONFIRMED
    (account,) = scene.stripe.every("account")
    assert account["contact_email"] == "a@example.com"
    assert account["identity"]["country"] == "us"
    assert scene.seen(owner_id).account_id == account["id"]
    assert scene.kinds() == ["payee_opened"]


def test_what_is_missing_is_said_in_the_experts_words_until_nothing_is(scene: Scene) -> None:
    owner_id = uuid4()
    with scene.begin() as session:
        with pytest.raises(UnknownPayee):
            payee_state(session, owner_id)
        payee = ensure_payee(
            session, owner_id=owner_id, country="US", email="e@example.com", at=scene.now()
        )
        opening = payee_state(session, owner_id)
        with pytest.raises(PayeeNotReady):
            plan_onboarding_link(
                session,
                owner_id=owner_id,
                refresh_url="https://example.com/a",
                return_url="https://example.com/b",
                at=scene.now(),
            )
    assert not opening.is_ready
    assert "being opened" in opening.missing[0]
    scene.run(payee.account_call_id)
    with scene.begin() as session:
        asked = payee_state(session, owner_id)
    assert asked.missing == (
        "Stripe still needs your date of birth.",
        "Stripe still needs a tax or identity number.",
        "Stripe still needs a bank account to be paid to.",
    )
    account_id = scene.seen(owner_id).account_id
    assert account_id is not None
    scene.stripe.onboard(account_id)
    scene.deliver()
    with scene.begin() as session:
        ready = payee_state(session, owner_id)
    assert ready.is_ready
    assert ready.missing == ()


def test_an_onboarding_link_leads_to_a_page_and_back_and_is_not_kept(scene: Scene) -> None:
    payee = scene.payee(onboarded=False)
    with scene.begin() as session:
        calls = [
            plan_onboarding_link(
                session,
                owner_id=payee.owner_id,
                refresh_url="https://example.com/again",
                return_url="https://example.com/back",
                at=scene.now(),
            ).id
            for _ in range(2)
        ]
    assert calls[0] == calls[1]
    outcome = scene.run(calls[0])
    assert outcome.link_url.startswith(scene.stripe.url)
    with scene.begin() as session:
        kept = session.get_one(ExternalCall, calls[0])
    assert kept.answer is not None
    assert outcome.link_url not in kept.answer
    page = httpx.get(outcome.link_url, trust_env=False)
    assert "This is not Stripe" in page.text
    done = httpx.post(outcome.link_url, trust_env=False)
    assert done.headers["location"] == "https://example.com/back"
    scene.deliver()
    assert scene.seen(payee.owner_id).transfers_status == "active"
    assert scene.kinds()[-1] == "payee_ready"


def test_an_account_whose_answer_was_lost_is_found_again_and_not_opened_twice(
    scene: Scene,
) -> None:
    owner_id = uuid4()
    with scene.begin() as session:
        payee = ensure_payee(
            session, owner_id=owner_id, country="US", email="e@example.com", at=scene.now()
        )
    scene.stripe.fault(ACCOUNTS, "drop_after")
    assert scene.insist(payee.account_call_id).result == Result.CONFIRMED
    assert len(scene.stripe.every("account")) == 1

    other_id = uuid4()
    with scene.begin() as session:
        other = ensure_payee(
            session, owner_id=other_id, country="US", email="f@example.com", at=scene.now()
        )
    assert other.account_call_id is not None
    scene.stripe.fault(ACCOUNTS, "drop_after")
    scene.run(other.account_call_id)
    scene.pass_time(hours=21)
    assert scene.run(other.account_call_id).result == Result.UNKNOWN
    found = resolve_unknown(scene.begin, scene.gateway, other.account_call_id, now=scene.now)
    assert found.result == Result.CONFIRMED
    assert len(scene.stripe.every("account")) == 2
    assert scene.seen(other_id).account_id == found_account(scene, str(other_id))


def found_account(scene: Scene, owner_id: str) -> str:
    """The stand-in's account for an owner."""
    (account,) = [a for a in scene.stripe.every("account") if a["metadata"]["owner_id"] == owner_id]
    return str(account["id"])


def test_a_refused_account_says_why_and_stays_closed(scene: Scene) -> None:
    owner_id = uuid4()
    with scene.begin() as session:
        payee = ensure_payee(
            session, owner_id=owner_id, country="US", email="e@example.com", at=scene.now()
        )
    scene.stripe.fault(ACCOUNTS, "refuse", status=400, code="country_unsupported", message="No.")
    outcome = scene.run(payee.account_call_id)
    assert outcome.result == Result.REFUSED
    assert [(fact.kind, fact.text) for fact in outcome.facts] == [("payee_not_ready", "No.")]
    with scene.begin() as session:
        call = session.get_one(ExternalCall, payee.account_call_id)
        assert call.state == CallState.REFUSED
        assert call.error_code == "country_unsupported"


def test_a_refused_account_is_opened_when_it_is_asked_for_again_as_it_should_be(
    scene: Scene,
) -> None:
    owner_id = uuid4()

    def ask(country: str) -> Payee:
        with scene.begin() as session:
            return ensure_payee(
                session, owner_id=owner_id, country=country, email="e@example.com", at=scene.now()
            )

    first = ask("KP")
    scene.stripe.fault(ACCOUNTS, "refuse", status=400, code="country_unsupported", message="No.")
    assert scene.run(first.account_call_id).result == Result.REFUSED
    second = ask("fr")
    assert second.id == first.id
    assert second.account_call_id != first.account_call_id
    # Asked once more before it is made, it is still one call.
    assert ask("FR").account_call_id == second.account_call_id
    assert scene.insist(second.account_call_id).result == Result.CONFIRMED
    (account,) = scene.stripe.every("account")
    assert account["identity"]["country"] == "fr"
    seen = scene.seen(owner_id)
    assert (seen.country, seen.account_id) == ("FR", account["id"])


def test_an_older_look_at_an_account_changes_nothing(scene: Scene) -> None:
    from payouts.payees import record_account
    from payouts.seen import AccountSeen

    payee = scene.payee()
    assert payee.fetched_at is not None
    assert payee.account_id is not None
    stale = AccountSeen(payee.account_id, "restricted", ("external_account",), False, {})
    with scene.begin() as session:
        kept = session.get_one(Payee, payee.id)
        assert record_account(session, kept, stale, fetched_at=payee.created_at) == []
    assert scene.seen(payee.owner_id).transfers_status == "active"


@pytest.mark.parametrize(
    ("requirement", "words"),
    [
        ("external_account", "a bank account to be paid to"),
        ("individual.documents.primary_verification", "a document that shows who you are"),
        ("identity.business_details.tax_ids", "something Stripe calls “identity, business details"),
    ],
)
def test_each_requirement_has_words_and_an_unknown_one_is_spelled_out(
    requirement: str, words: str
) -> None:
    assert in_words(requirement).startswith(words)
