"""Accounts v2 in the recipient configuration, the links that onboard them, and their events."""

from __future__ import annotations

import time

from tests.fakestripe.answers import Call, Handler, public
from tests.fakestripe.world import ApiRefusal, Json, World, not_found

INCLUDABLE = ("configuration", "defaults", "identity", "requirements", "future_requirements")
ONBOARDING = ("individual.date_of_birth", "individual.id_numbers", "external_account")


def _requirement(description: str, deadline: str = "currently_due") -> Json:
    capabilities = ["stripe_balance.stripe_transfers"]
    if description == "external_account":
        capabilities = ["stripe_balance.payouts"]
    return {
        "awaiting_action_from": "user",
        "description": description,
        "errors": [],
        "impact": {
            "restricts_capabilities": [
                {
                    "capability": capability,
                    "configuration": "recipient",
                    "deadline": {"status": deadline},
                }
                for capability in capabilities
            ]
        },
        "minimum_deadline": {"status": deadline},
        "requested_reasons": [{"code": "routine_onboarding"}],
    }


def _capability(status: str) -> Json:
    details = []
    if status in ("restricted", "pending"):
        details = [{"code": "requirements_past_due", "resolution": "provide_info"}]
    return {"status": status, "status_details": details}


def _shown(account: Json, include: list[str]) -> Json:
    """Only what was asked for by name; the other parts are null, as the types promise."""
    answer = public(account)
    for part in INCLUDABLE:
        if not any(name.split(".")[0] == part for name in include):
            answer[part] = None
    return answer


def create_account(world: World, call: Call) -> Json:
    params = call.params
    recipient = params.get("configuration", {}).get("recipient")
    identity = params.get("identity", {})
    if recipient is None or not identity.get("country"):
        raise ApiRefusal(
            400,
            "invalid_request_error",
            "This stand-in knows recipient accounts with a country only",
            code="account_configuration_unknown",
        )
    responsibilities = params.get("defaults", {}).get("responsibilities", {})
    if params.get("dashboard") == "express" and responsibilities.get("losses_collector") != (
        "application"
    ):
        raise ApiRefusal(
            400,
            "invalid_request_error",
            "An Express dashboard needs the platform to answer for losses and fees",
            code="account_controller_express_dash_without_application_losses_or_fees",
        )
    account: Json = {
        "id": world.new_id("acct"),
        "object": "v2.core.account",
        "applied_configurations": ["recipient"],
        "closed": False,
        "configuration": {
            "customer": None,
            "merchant": None,
            "recipient": {
                "applied": True,
                "capabilities": {
                    "stripe_balance": {
                        "stripe_transfers": _capability("restricted"),
                        "payouts": _capability("restricted"),
                    }
                },
            },
        },
        "contact_email": params.get("contact_email"),
        "created": world.iso(),
        "dashboard": params.get("dashboard", "none"),
        "defaults": {
            "currency": params.get("defaults", {}).get("currency", "usd"),
            "responsibilities": {**responsibilities, "requirements_collector": "stripe"},
        },
        "display_name": params.get("display_name"),
        "future_requirements": {"entries": []},
        "identity": {
            "country": identity["country"],
            "entity_type": identity.get("entity_type", "individual"),
        },
        "livemode": False,
        "metadata": params.get("metadata", {}),
        "requirements": {
            "entries": [_requirement(name) for name in ONBOARDING],
            "summary": {"minimum_deadline": {"status": "currently_due"}},
        },
    }
    world.put("account", account)
    world.thin_event("v2.core.account.created", account["id"])
    if world.instant_onboarding:
        onboard(world, account["id"])
    return _shown(account, params.get("include", []))


def retrieve_account(world: World, call: Call) -> Json:
    return _shown(world.get("account", call.ids[0]), call.params.get("include", []))


def update_account(world: World, call: Call) -> Json:
    account = world.get("account", call.ids[0])
    for name in ("contact_email", "display_name"):
        if name in call.params:
            account[name] = call.params[name]
    account["metadata"] |= call.params.get("metadata", {})
    world.thin_event("v2.core.account.updated", account["id"])
    return _shown(account, call.params.get("include", []))


def list_accounts(world: World, call: Call) -> Json:
    limit = int(call.params.get("limit", 20))
    found = world.every("account")
    start = int(call.params.get("page", 0))
    more = start + limit < len(found)
    return {
        "data": [_shown(account, []) for account in found[start : start + limit]],
        "next_page_url": f"/v2/core/accounts?limit={limit}&page={start + limit}" if more else None,
        "previous_page_url": None,
    }


def create_account_link(world: World, call: Call) -> Json:
    account = world.get("account", call.params["account"])
    use_case = call.params["use_case"]
    options = use_case.get(use_case["type"], {})
    token = world.new_id("link")
    world.put(
        "link",
        {"id": token, "account": account["id"], "return_url": options.get("return_url", "")},
    )
    base = world.objects.get("self", {}).get("self", {}).get("url", "")
    expires = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(world.now() + 300))
    return {
        "object": "v2.core.account_link",
        "account": account["id"],
        "created": world.iso(),
        "expires_at": expires,
        "livemode": False,
        "url": f"{base}/_onboard/{token}",
        "use_case": {
            "type": use_case["type"],
            use_case["type"]: {"configurations": ["recipient"], **options},
        },
    }


def retrieve_v2_event(world: World, call: Call) -> Json:
    return public(world.get("v2.event", call.ids[0]))


def set_transfers(
    world: World, account_id: str, *, status: str, requirements: list[str] | None = None
) -> Json:
    """Put an account's capabilities into a state, as Stripe's checks would."""
    account = world.get("account", account_id)
    balance = account["configuration"]["recipient"]["capabilities"]["stripe_balance"]
    balance["stripe_transfers"] = _capability(status)
    balance["payouts"] = _capability(status)
    if requirements is not None:
        account["requirements"] = {"entries": [_requirement(name) for name in requirements]}
        if requirements:
            account["requirements"]["summary"] = {"minimum_deadline": {"status": "currently_due"}}
        world.thin_event("v2.core.account[requirements].updated", account_id)
    world.thin_event(
        "v2.core.account[configuration.recipient].capability_status_updated", account_id
    )
    return public(account)


def set_bank(world: World, account_id: str) -> Json:
    """Give the account a bank account, or another one; the next payout goes there."""
    account = world.get("account", account_id)
    kind = "updated" if account.get("_bank") else "created"
    account["_bank"] = world.new_id("ba")
    account["_bank_errored"] = False
    external = {
        "id": account["_bank"],
        "object": "bank_account",
        "account": account_id,
        "bank_name": "STAND-IN BANK",
        "country": account["identity"]["country"].upper(),
        "currency": account["defaults"]["currency"],
        "last4": account["_bank"][-4:],
        "status": "new",
    }
    world.event(f"account.external_account.{kind}", external, account=account_id)
    world.later(world.delays.payout_s, "payout", account_id)
    return external


def onboard(world: World, account_id: str) -> Json:
    """All that hosted onboarding does, at once: details given, bank named, transfers active."""
    set_bank(world, account_id)
    return set_transfers(world, account_id, status="active", requirements=[])


def ready_account(world: World) -> str:
    """A recipient that is ready to be paid, made past the API; its id."""
    params: Json = {
        "configuration": {"recipient": {}},
        "identity": {"country": "us"},
        "defaults": {"responsibilities": {"losses_collector": "application"}},
    }
    account = create_account(world, Call("POST", "/v2/core/accounts", (), params))
    set_transfers(world, account["id"], status="active", requirements=[])
    return str(account["id"])


def transfers_active(world: World, account_id: str) -> bool:
    """Whether money may be transferred to this account now."""
    account = world.objects.get("account", {}).get(account_id)
    if account is None:
        raise not_found("destination", account_id)
    balance = account["configuration"]["recipient"]["capabilities"]["stripe_balance"]
    return bool(balance["stripe_transfers"]["status"] == "active") and not account["closed"]


ROUTES: dict[tuple[str, str], Handler] = {
    ("POST", "/v2/core/accounts"): create_account,
    ("GET", "/v2/core/accounts"): list_accounts,
    ("GET", "/v2/core/accounts/{id}"): retrieve_account,
    ("POST", "/v2/core/accounts/{id}"): update_account,
    ("POST", "/v2/core/account_links"): create_account_link,
    ("GET", "/v2/core/events/{id}"): retrieve_v2_event,
}
