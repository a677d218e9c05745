"""What `stumpwork policy ...` asks of the API."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from market.errors import MarketError
from market.replay.caller import Caller

Say = Callable[[str], None]


class FileUnreadable(MarketError):
    """A file that cannot be read, or that holds no JSON object."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file


def carry_out(ops: Caller, asked: Namespace, say: Say) -> Any:
    """Carry out one command, and give back what the service answered.

    Raises:
        CallRefused, FileUnreadable.
    """
    return _COMMANDS[asked.does](ops, asked, say)


def _list(ops: Caller, asked: Namespace, say: Say) -> Any:
    del say
    rows = ops.every("/v1/policies", **_given(name=asked.name))
    return _parts(rows, "id", "name", "version_no", "reason", "is_default", "created_at")


def _show(ops: Caller, asked: Namespace, say: Say) -> Any:
    del say
    return ops.get(_policy(asked))


def _diff(ops: Caller, asked: Namespace, say: Say) -> Any:
    del say
    told = ops.get(f"{_policy(asked)}/diff", **_given(against=asked.against))
    return {
        "differences": [one["sentence"] for one in told["differences"]],
        "large": told["large"],
    }


def _propose(ops: Caller, asked: Namespace, say: Say) -> Any:
    del say
    body = {"name": asked.name, "document": _object(asked.file), "reason": asked.reason}
    headers = {} if asked.based_on is None else {"If-Match": f'"{asked.based_on}"'}
    return ops.post("/v1/policies", body, headers=headers)


def _approve(ops: Caller, asked: Namespace, say: Say) -> Any:
    del say
    return ops.post(f"{_policy(asked)}/approval", {"note": asked.note})


def _preview(ops: Caller, asked: Namespace, say: Say) -> Any:
    return _replayed(ops, "previews", {"policy_id": asked.policy, **_stretch(asked)}, say)


def _search(ops: Caller, asked: Namespace, say: Say) -> Any:
    wanted = {
        "goal_fill": asked.fill,
        "evaluations": asked.evaluations,
        **_given(domain=asked.domain, policy_id=asked.policy),
    }
    return _replayed(ops, "searches", {**wanted, **_stretch(asked)}, say)


def _canary(ops: Caller, asked: Namespace, say: Say) -> Any:
    del say
    body = {
        "name": f"canary of {asked.policy}",
        "kind": "policy",
        "unit": asked.unit,
        "share": asked.share,
        "reason": asked.reason,
        "treated_policy_id": asked.policy,
    }
    return _begun(ops, body)


def _trial(ops: Caller, asked: Namespace, say: Say) -> Any:
    del say
    return _begun(ops, _object(asked.file))


def _trials(ops: Caller, asked: Namespace, say: Say) -> Any:
    del say
    rows = ops.every("/v1/experiments", **_given(state=asked.state))
    return _parts(rows, "id", "name", "kind", "unit", "share", "state", "started_at", "end_reason")


def _watch(ops: Caller, asked: Namespace, say: Say) -> Any:
    del say
    return ops.get(_experiment(asked))


def _finish(ops: Caller, asked: Namespace, say: Say) -> Any:
    del say
    return ops.post(f"{_experiment(asked)}/finish", {"reason": asked.reason})


def _promote(ops: Caller, asked: Namespace, say: Say) -> Any:
    del say
    return ops.post(f"{_experiment(asked)}/promote", {"reason": asked.reason})


def _choose(ops: Caller, asked: Namespace, say: Say) -> Any:
    del say
    place = _place(asked)
    # What stands there now is read first, so that nobody's choice of this moment is undone.
    return ops.replace(place, {"policy_id": asked.policy, "reason": asked.reason})


def _return(ops: Caller, asked: Namespace, say: Say) -> Any:
    del say
    return ops.post(f"{_place(asked)}/return")


def _begun(ops: Caller, body: dict[str, Any]) -> Any:
    made = ops.post("/v1/experiments", body)
    return ops.post(f"/v1/experiments/{made['id']}/start")


def _replayed(ops: Caller, kind: str, body: dict[str, Any], say: Say) -> Any:
    started = ops.post(f"/v1/policy-{kind}", body)
    ops.await_operation(started["operation_id"], say)
    return ops.get(f"/v1/policy-previews/{started['id']}")["result"]


def _stretch(asked: Namespace) -> dict[str, str]:
    until = datetime.now(UTC)
    return {
        "since": (until - timedelta(days=asked.days)).isoformat(),
        "until": until.isoformat(),
        **_given(project_id=asked.project),
    }


def _policy(asked: Namespace) -> str:
    return f"/v1/policies/{quote(asked.policy, safe='')}"


def _experiment(asked: Namespace) -> str:
    return f"/v1/experiments/{quote(asked.experiment, safe='')}"


def _place(asked: Namespace) -> str:
    """Where it stands which policy is obeyed: for a project's own runs, or for all others."""
    if asked.project is None:
        return "/v1/policies/default"
    return f"/v1/projects/{quote(asked.project, safe='')}/policy"


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _parts(rows: Iterable[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{name: row[name] for name in names} for row in rows]


def _object(file: str) -> dict[str, Any]:
    """The JSON object that a file holds, or standard input where the file is `-`.

    Raises:
        FileUnreadable.
    """

    def no_number(name: str) -> NoReturn:
        raise FileUnreadable(file, f"{name} is no number that JSON can hold")

    try:
        written = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        found = json.loads(written, parse_constant=no_number)
    except OSError as wrong:
        raise FileUnreadable(file, wrong.strerror or "cannot be read") from wrong
    except ValueError as wrong:
        raise FileUnreadable(file, f"is no JSON: {wrong}") from wrong
    if not isinstance(found, dict):
        raise FileUnreadable(file, "holds no JSON object")
    return found


_COMMANDS: dict[str, Callable[[Caller, Namespace, Say], Any]] = {
    "list": _list,
    "show": _show,
    "diff": _diff,
    "propose": _propose,
    "approve": _approve,
    "preview": _preview,
    "search": _search,
    "canary": _canary,
    "trial": _trial,
    "trials": _trials,
    "watch": _watch,
    "finish": _finish,
    "promote": _promote,
    "choose": _choose,
    "return": _return,
}
