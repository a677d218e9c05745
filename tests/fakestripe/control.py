"""The stand-in's own paths, which exist nowhere at Stripe: all of them begin with `/_`."""

from __future__ import annotations

import asyncio
import html
import json
from collections import Counter
from typing import TYPE_CHECKING

from tests.fakestripe import accounts, disputes, exchange, invoices, moves, payments
from tests.fakestripe.faults import UnknownFault
from tests.fakestripe.world import ApiRefusal, Json, transaction

if TYPE_CHECKING:
    from tests.fakestripe.server import Answer, Asked, FakeStripeApp


async def answer(app: FakeStripeApp, asked: Asked) -> Answer:
    """Serve one control request."""
    from tests.fakestripe.server import Answer

    parts = asked.path.strip("/").split("/")
    if parts[0] == "_onboard" and len(parts) == 2:
        return _onboarding_page(app, asked, parts[1])
    try:
        data: Json = json.loads(asked.body) if asked.body else {}
        body = await _route(app, asked.method, parts, data)
    except ApiRefusal as refusal:
        return Answer.of(refusal.status, {"error": refusal.body})
    except (UnknownFault, TypeError, KeyError, json.JSONDecodeError) as error:
        return Answer.of(400, {"error": {"message": f"{type(error).__name__}: {error}"}})
    app.world.save()
    return Answer.of(200, body)


async def _route(app: FakeStripeApp, method: str, parts: list[str], data: Json) -> Json:
    world = app.world
    match (method, *parts):
        case ("GET", "_health"):
            return {
                "stand_in": True,
                "checked_against": app.gate.source,
                "never_run_against_stripe": True,
                "requests": app.requests,
                "busiest_second": app.pace.busiest,
                "refused_for_pace": app.pace.refused,
            }
        case ("GET", "_headers"):
            return {"headers": app.last_headers}
        case ("GET", "_bank"):
            return {"places": world.bank.by_place(), "movements": world.bank.entries}
        case ("GET", "_bank", "check"):
            problems = check_bank(app)
            return {"ok": not problems, "problems": problems}
        case ("GET", "_gate"):
            return {
                "source": app.gate.source,
                "complaints": app.gate.complaints,
                "answers": app.gate.notes,
            }
        case ("POST", "_reset"):
            world.forget()
            app.gate.complaints.clear()
            app.gate.notes.clear()
            app.faults.rules.clear()
            app.revoked.clear()
            app.pace.forget()
            app.deliverer.log.clear()
            app.deliverer.held = False
            app.withhold = ""
            return {}
        case ("DELETE", "_gate"):
            app.gate.complaints.clear()
            app.gate.notes.clear()
            return {}
        case ("POST", "_faults"):
            app.faults.add(data)
            return {"rules": app.faults.dump()}
        case ("GET", "_faults"):
            return {"rules": app.faults.dump()}
        case ("DELETE", "_faults"):
            app.faults.rules.clear()
            return {}
        case ("POST", "_answers", "withhold"):
            app.withhold, app.withheld = str(data["operation"]), 0
            app.before_withholding = int(data.get("after", 0))
            return {}
        case ("GET", "_answers", "withhold"):
            return {"withheld": app.withheld}
        case ("DELETE", "_answers", "withhold"):
            app.withhold = ""
            return {}
        case ("GET", "_requests"):
            return {"in_flight": len(app.in_flight)}
        case ("POST", "_clock"):
            world.clock_offset_s += float(data.get("advance_s", 0))
            world.paused = bool(data.get("paused", world.paused))
            return {"now": world.now(), "paused": world.paused}
        case ("POST", "_pages"):
            # Shorter pages than were asked for, so that a list has several.
            world.longest_page = int(data["longest"])
            return {}
        case ("POST", "_keys", "revoke"):
            app.revoked.add(str(data["key"]))
            return {}
        case ("POST", "_keys", "restore"):
            app.revoked.discard(str(data["key"]))
            return {}
        case ("POST", "_accounts"):
            # Many recipients at once, ready to be paid: for loads, not for what onboarding means.
            return {"ids": [accounts.ready_account(world) for _ in range(int(data["count"]))]}
        case ("POST", "_balance", "top_up"):
            return moves.top_up(world, int(data["amount"]), str(data.get("currency", "usd")))
        case ("POST", "_accounts", account_id, "onboard"):
            return accounts.onboard(world, account_id)
        case ("POST", "_accounts", account_id, "bank"):
            return accounts.set_bank(world, account_id)
        case ("POST", "_accounts", account_id, "currency"):
            # What the account is kept in, which Stripe takes from where its bank is.
            world.get("account", account_id)["defaults"]["currency"] = str(data["currency"])
            return {}
        case ("POST", "_rates"):
            return exchange.set_rate(world, str(data["from"]), str(data["to"]), str(data["rate"]))
        case ("POST", "_accounts", account_id, "transfers"):
            return accounts.set_transfers(
                world,
                account_id,
                status=str(data["status"]),
                requirements=data.get("requirements"),
            )
        case ("POST", "_accounts", account_id, "take"):
            # Something outside takes money from a connected account, below zero if need be.
            account = world.get("account", account_id)
            currency = account["defaults"]["currency"]
            amount = int(data["amount"])
            world.bank.move(
                kind="adjustment",
                source=account_id,
                at=world.now(),
                may_overdraw=True,
                legs=[
                    (f"{account_id}/available", currency, -amount),
                    ("world/payers", currency, amount),
                ],
            )
            return transaction(
                world,
                owner=account_id,
                kind="adjustment",
                category="other_adjustment",
                source=account_id,
                amount=-amount,
                currency=currency,
            )
        case ("POST", "_payouts", payout_id, "fail"):
            return moves.fail_payout(world, payout_id, code=str(data.get("code", "account_closed")))
        case ("POST", "_pace"):
            app.pace.allowed = int(data["allowed"])
            return {}
        case ("POST", "_invoices", invoice_id, "pay"):
            method = str(data.get("payment_method", "pm_card_bypassPending"))
            off_stripe = bool(data.get("off_stripe", False))
            return invoices.pay(world, invoice_id, method, off_stripe=off_stripe)
        case ("POST", "_invoices", invoice_id, "give_up"):
            return invoices.give_up(world, invoice_id)
        case ("POST", "_charges", charge_id, "dispute"):
            wanted = data.get("amount")
            return disputes.open_dispute(
                world,
                charge_id,
                reason=str(data.get("reason", "fraudulent")),
                amount=int(wanted) if wanted is not None else None,
                inquiry=bool(data.get("inquiry", False)),
            )
        case ("POST", "_disputes", dispute_id, "escalate"):
            return disputes.escalate(world, dispute_id)
        case ("POST", "_disputes", dispute_id, "close"):
            return disputes.close_dispute(world, dispute_id, won=bool(data["won"]))
        case ("POST", "_balance", "fee"):
            # Something Stripe charges by itself, such as a monthly fee.
            return moves.charge_fee(world, int(data["amount"]), str(data.get("currency", "usd")))
        case ("POST", "_refunds", refund_id, "fail"):
            return payments.fail_refund(world, refund_id)
        case ("POST", "_objects", kind, object_id):
            # What only another version of Stripe would say, with the event that tells of it.
            changed = world.get(kind, object_id)
            changed.update(data["fields"])
            if kind == "account":
                world.thin_event(str(data["event"]), object_id)
            else:
                world.event(str(data["event"]), changed)
            return {}
        case ("GET", "_objects", kind):
            return {"data": world.every(kind)}
        case ("POST", "_webhooks", "redeliver"):
            app.deliverer.redeliver(str(data["event"]))
            return {}
        case ("POST", "_webhooks", "hold"):
            app.deliverer.held = bool(data.get("held", True))
            return {"held": app.deliverer.held}
        case ("POST", "_webhooks", "secrets"):
            for endpoint in app.deliverer.endpoints:
                if endpoint.thin == bool(data.get("thin", False)):
                    endpoint.secrets = [str(secret) for secret in data["secrets"]]
            return {}
        case ("GET", "_webhooks"):
            return {"waiting": app.deliverer.waiting(), "log": app.deliverer.log}
        case ("POST", "_settle"):
            return await _settle(app, float(data.get("timeout_s", 10)))
        case _:
            raise ApiRefusal(404, "invalid_request_error", f"No control path {'/'.join(parts)}")


async def _settle(app: FakeStripeApp, timeout_s: float) -> Json:
    """Wait until nothing is due any more and every event was delivered, or give up."""
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    while loop.time() < until:
        if not app.world.due and not app.deliverer.waiting():
            return {"settled": True}
        await asyncio.sleep(0.01)
    return {"settled": False, "due": len(app.world.due), "waiting": app.deliverer.waiting()}


def check_bank(app: FakeStripeApp) -> list[str]:
    """The conservation law, and that objects, transactions and balances tell one story."""
    world = app.world
    found = world.bank.problems()
    net: Counter[tuple[str, str]] = Counter()
    for line in world.every("balance_transaction"):
        net[world.owner_of[line["id"]], line["currency"]] += line["net"]
    places = {(place.split("/")[0], currency) for place, currency in world.bank.held}
    for account, currency in sorted(places - {("world", currency) for _, currency in places}):
        if account == "stripe":
            continue
        held = sum(
            world.bank.balance(f"{account}/{part}", currency) for part in ("available", "pending")
        )
        if net[account, currency] != held:
            found.append(
                f"{account} holds {held} {currency}, its transactions say {net[account, currency]}"
            )
    moved = Counter(entry["source"] for entry in world.bank.entries if entry["kind"] == "transfer")
    for transfer in world.every("transfer"):
        if moved[transfer["id"]] != 1:
            found.append(f"{transfer['id']} moved money {moved[transfer['id']]} times")
    groups = Counter(
        transfer["transfer_group"]
        for transfer in world.every("transfer")
        if transfer["transfer_group"] and not transfer["reversed"]
    )
    found += [f"{group} was paid by {n} live transfers" for group, n in groups.items() if n > 1]
    return found


def _onboarding_page(app: FakeStripeApp, asked: Asked, token: str) -> Answer:
    """A page with one button in the place of Stripe's hosted onboarding."""
    from tests.fakestripe.server import Answer

    link = app.world.objects.get("link", {}).get(token)
    if link is None:
        return Answer(404, b"This link is not known.", {"content-type": "text/plain"})
    if asked.method == "POST":
        accounts.onboard(app.world, link["account"])
        app.world.save()
        return Answer(303, b"", {"location": link["return_url"] or f"/_onboard/{token}"})
    account = app.world.get("account", link["account"])
    open_points = [entry["description"] for entry in account["requirements"]["entries"]]
    items = "".join(f"<li>{html.escape(point)}</li>" for point in open_points)
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8">
<title>Onboarding (stand-in)</title>
<h1>Onboarding, played by a stand-in</h1>
<p>This is not Stripe. In its place, this page gives account {html.escape(account["id"])} what
hosted onboarding would have asked for, with one press of a button.</p>
<p>Still asked for:</p><ul>{items or "<li>nothing</li>"}</ul>
<form method="post"><button>Give everything and go back</button></form></html>"""
    return Answer(200, page.encode(), {"content-type": "text/html; charset=utf-8"})
