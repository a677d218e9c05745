"""What `stumpwork policy ...` asks of the API."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from market.replay.caller import Caller


def carry_out(ops: Caller, asked: Namespace, say: Callable[[str], None]) -> Any:
    """Carry out one command, and give back what the service answered.

    Raises:
        CallRefused.
    """
    return _COMMANDS[asked.does](ops, asked, say)


def _show(ops: Caller, asked: Namespace, say: Callable[[str], None]) -> Any:
    del say
    return ops.get(f"/v1/policies/{asked.policy}")


def _approve(ops: Caller, asked: Namespace, say: Callable[[str], None]) -> Any:
    del say
    return ops.post(f"/v1/policies/{asked.policy}/approval", {"note": asked.note})


def _promote(ops: Caller, asked: Namespace, say: Callable[[str], None]) -> Any:
    del say
    return ops.post(f"/v1/experiments/{asked.experiment}/promote", {"reason": asked.reason})


def _return(ops: Caller, asked: Namespace, say: Callable[[str], None]) -> Any:
    del say
    return ops.post(
        f"/v1/projects/{asked.project}/policy/return"
        if asked.project
        else "/v1/policies/default/return"
    )


def _list(ops: Caller, asked: Namespace, say: Callable[[str], None]) -> Any:
    del say
    rows = ops.every("/v1/policies", **({"name": asked.name} if asked.name else {}))
    kept = ("id", "name", "version_no", "reason", "is_default", "created_at")
    return [{name: row[name] for name in kept} for row in rows]


def _diff(ops: Caller, asked: Namespace, say: Callable[[str], None]) -> Any:
    del say
    against = {"against": asked.against} if asked.against else {}
    told = ops.get(f"/v1/policies/{asked.policy}/diff", **against)
    return {
        "differences": [one["sentence"] for one in told["differences"]],
        "large": told["large"],
    }


def _propose(ops: Caller, asked: Namespace, say: Callable[[str], None]) -> Any:
    del say
    written = sys.stdin.read() if asked.file == "-" else Path(asked.file).read_text("utf-8")
    body = {"name": asked.name, "document": json.loads(written), "reason": asked.reason}
    headers = {} if asked.based_on is None else {"If-Match": f'"{asked.based_on}"'}
    return ops.post("/v1/policies", body, headers=headers)


def _preview(ops: Caller, asked: Namespace, say: Callable[[str], None]) -> Any:
    until = datetime.now(UTC)
    body = {
        "policy_id": asked.policy,
        "since": (until - timedelta(days=asked.days)).isoformat(),
        "until": until.isoformat(),
    }
    started = ops.post("/v1/policy-previews", body)
    ops.await_operation(started["operation_id"], say)
    return ops.get(f"/v1/policy-previews/{started['id']}")["result"]


def _canary(ops: Caller, asked: Namespace, say: Callable[[str], None]) -> Any:
    del say
    body = {
        "name": f"canary of {asked.policy}",
        "kind": "policy",
        "unit": asked.unit,
        "share": asked.share,
        "reason": asked.reason,
        "treated_policy_id": asked.policy,
    }
    made = ops.post("/v1/experiments", body)
    return ops.post(f"/v1/experiments/{made['id']}/start")


_COMMANDS: dict[str, Callable[[Caller, Namespace, Callable[[str], None]], Any]] = {
    "list": _list,
    "show": _show,
    "diff": _diff,
    "propose": _propose,
    "approve": _approve,
    "preview": _preview,
    "canary": _canary,
    "promote": _promote,
    "return": _return,
}
