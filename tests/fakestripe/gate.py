"""The gate: each request is held against Stripe's published description before it is obeyed.

The description is data that lies beside the checkout and is not part of it. Where it is absent,
the few operations below are checked by hand-written rules, and the gate says so.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import jsonschema_rs

from tests.fakestripe.world import API_VERSION, Json

SDK_FILE = "sdk-16.1.0-params.2026-10-28.endive.json.gz"
V1_FILE = "spec3.subset.2026-08-26.dahlia.json.gz"
V2_FILE = "spec3.v2.2025-12-15.clover.json.gz"

BUILT_IN: dict[str, Json] = {
    "post /v1/transfers": {
        "amount": "integer",
        "currency": "string",
        "description": "string",
        "destination": "string",
        "metadata": "object",
        "transfer_group": "string",
        "expand": "array",
    },
    "post /v1/transfers/{id}/reversals": {
        "amount": "integer",
        "description": "string",
        "metadata": "object",
        "expand": "array",
    },
    "post /v1/payment_intents": {
        "amount": "integer",
        "currency": "string",
        "confirm": "boolean",
        "description": "string",
        "metadata": "object",
        "payment_method": "string",
        "transfer_group": "string",
        "automatic_payment_methods": "object",
        "expand": "array",
    },
    "post /v1/refunds": {
        "amount": "integer",
        "charge": "string",
        "payment_intent": "string",
        "metadata": "object",
        "reason": "string",
        "expand": "array",
    },
    "post /v1/customers": {"email": "string", "name": "string", "metadata": "object"},
    "post /v1/invoices": {
        "customer": "string",
        "currency": "string",
        "collection_method": "string",
        "days_until_due": "integer",
        "auto_advance": "boolean",
        "pending_invoice_items_behavior": "string",
        "description": "string",
        "metadata": "object",
    },
    "post /v1/invoiceitems": {
        "customer": "string",
        "invoice": "string",
        "amount": "integer",
        "currency": "string",
        "description": "string",
        "metadata": "object",
    },
    "post /v1/invoices/{invoice}/finalize": {"auto_advance": "boolean", "expand": "array"},
    "post /v1/invoices/{invoice}/void": {"expand": "array"},
    "post /v1/disputes/{dispute}": {
        "evidence": "object",
        "submit": "boolean",
        "metadata": "object",
        "expand": "array",
    },
    "post /v1/payouts": {
        "amount": "integer",
        "currency": "string",
        "description": "string",
        "metadata": "object",
        "expand": "array",
    },
    "post /v2/core/accounts": {
        "configuration": "object",
        "contact_email": "string",
        "dashboard": "string",
        "defaults": "object",
        "display_name": "string",
        "identity": "object",
        "include": "array",
        "metadata": "object",
    },
    "post /v2/core/accounts/{id}": {
        "contact_email": "string",
        "display_name": "string",
        "include": "array",
        "metadata": "object",
    },
    "post /v2/core/account_links": {"account": "string", "use_case": "object"},
}
"""What the gate knows by itself of the writes it serves: names and types of the top level."""


def data_folder() -> Path:
    """Where the published description would lie: beside the checkout, or where a variable says."""
    shared = os.environ.get("STUMPWORK_SHARED_DATA")
    root = Path(shared) if shared else Path(__file__).resolve().parents[3] / "shared" / "data"
    return root / "stripe"


def _load(path: Path) -> Json:
    return json.loads(gzip.decompress(path.read_bytes()))  # type: ignore[no-any-return]


def _without_nullable(schema: Any) -> Any:
    """OpenAPI 3.0 says `nullable`; JSON Schema wants a union with null."""
    if isinstance(schema, list):
        return [_without_nullable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _without_nullable(value) for key, value in schema.items()}
    if schema.pop("nullable", False):
        return {"anyOf": [schema, {"type": "null"}]}
    return schema


def nested(pairs: list[tuple[str, str]]) -> Json:
    """Form fields such as `a[b][0]=c` as the structure they spell."""
    root: Json = {}
    for name, value in pairs:
        parts = re.findall(r"[^\[\]]+", name)
        spot = root
        for part in parts[:-1]:
            spot = spot.setdefault(part, {})
        last = parts[-1]
        if name.endswith("[]"):
            spot.setdefault(last, {})[str(len(spot.get(last, {})))] = value
        else:
            spot[last] = value

    def lists(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        value = {key: lists(inner) for key, inner in value.items()}
        if value and all(key.isdigit() for key in value):
            return [value[key] for key in sorted(value, key=int)]
        return value

    return lists(root)  # type: ignore[no-any-return]


@dataclass(slots=True)
class Gate:
    """Checks requests, and the stand-in's own answers, and keeps every complaint."""

    source: str = ""
    complaints: list[Json] = field(default_factory=list)
    notes: list[Json] = field(default_factory=list)
    _sdk: Json = field(default_factory=dict)
    _v1: Json = field(default_factory=dict)
    _v2: Json = field(default_factory=dict)
    _validators: dict[str, Any] = field(default_factory=dict)

    def load(self) -> None:
        """Read the description files, or say that they are not there."""
        folder = data_folder()
        if not (folder / SDK_FILE).exists():
            self.source = (
                "built-in minimal checks: the published description is not on this machine"
            )
            return
        self._sdk = _load(folder / SDK_FILE)
        found = [self._sdk["sdk"]]
        if (folder / V1_FILE).exists():
            self._v1 = _without_nullable(_load(folder / V1_FILE))
            found.append("OpenAPI v1 2026-08-26.dahlia")
        if (folder / V2_FILE).exists():
            self._v2 = _without_nullable(_load(folder / V2_FILE))
            found.append("OpenAPI v2 2025-12-15.clover")
        self.source = "published description: " + ", ".join(found)

    def _sdk_schema(self, operation: str) -> Json:
        if self._sdk:
            known = self._sdk["operations"].get(operation)
            return dict(known["params"]) if known else {}
        fields = BUILT_IN.get(operation, {})
        return {
            "type": "object",
            "properties": {name: {"type": kind} for name, kind in fields.items()},
            "additionalProperties": False,
        }

    def _validator(self, name: str, schema: Json, root: Json) -> Any:
        if name not in self._validators:
            self._validators[name] = jsonschema_rs.validator_for({**schema, **root})
        return self._validators[name]

    def typed(self, operation: str, raw: bytes, query: str, is_json: bool) -> Json:
        """The parameters with the types that the description gives them.

        A form holds only strings; each becomes the number or truth value its field asks for when
        it spells one, and stays a string, to be complained of, when it does not.
        """
        if is_json:
            body = json.loads(raw) if raw else {}
            return body if isinstance(body, dict) else {"": body}
        text = raw.decode("utf-8") if raw else query
        params = nested(parse_qsl(text, keep_blank_values=True))
        return self._coerced(params, self._sdk_schema(operation))  # type: ignore[no-any-return]

    def _coerced(self, value: Any, schema: Json) -> Any:
        if "$ref" in schema:
            name = schema["$ref"].removeprefix("#/defs/")
            schema = self._sdk["defs"][name]
        for branch in schema.get("anyOf", []):
            better = self._coerced(value, branch)
            if better != value:
                return better
        kind = schema.get("type")
        if isinstance(value, str):
            if kind == "integer" and re.fullmatch(r"-?\d+", value):
                return int(value)
            if kind == "number" and re.fullmatch(r"-?\d+(\.\d+)?", value):
                return float(value)
            if kind == "boolean" and value in ("true", "false"):
                return value == "true"
            return value
        if isinstance(value, dict):
            fields = schema.get("properties", {})
            rest = schema.get("additionalProperties")
            rest = rest if isinstance(rest, dict) else {}
            return {key: self._coerced(v, fields.get(key, rest)) for key, v in value.items()}
        if isinstance(value, list):
            return [self._coerced(item, schema.get("items", {})) for item in value]
        return value

    def check(self, operation: str, path: str, params: Json, headers: dict[str, str]) -> str:
        """The first complaint about a request in one sentence, or nothing; all are kept."""
        found = [*self._headers(operation, headers), *self._params(operation, params)]
        for where, what in found:
            self.complaints.append({"path": path, "field": where, "complaint": what})
        return f"{found[0][0]}: {found[0][1]}" if found else ""

    def _headers(self, operation: str, headers: dict[str, str]) -> list[tuple[str, str]]:
        found = []
        version = headers.get("stripe-version", "")
        if not version:
            found.append(("Stripe-Version", "the header is missing"))
        elif version != API_VERSION:
            found.append(("Stripe-Version", f"{version} is not the pinned {API_VERSION}"))
        if operation.startswith("post "):
            key = headers.get("idempotency-key", "")
            if not key:
                found.append(("Idempotency-Key", "a write came without a key"))
            elif _made_by_the_library(key):
                found.append(
                    ("Idempotency-Key", "the library made this key up; it dies with the process")
                )
        return found

    def _params(self, operation: str, params: Json) -> list[tuple[str, str]]:
        schema = self._sdk_schema(operation)
        if not schema:
            return [("", f"{operation} is not among the described operations")]
        if not self._sdk and operation.startswith("get "):
            return []
        root = {"defs": self._sdk["defs"]} if self._sdk else {}
        found = [
            (".".join(map(str, error.instance_path)) or _named(error.message), error.message)
            for error in self._validator(f"sdk {operation}", schema, root).iter_errors(params)
        ]
        method, template = operation.split(" ", 1)
        if template.startswith("/v1/") and method == "post" and self._v1:
            found += self._older(operation, template, params, schema)
        if template.startswith("/v2/") and method == "post" and self._v2:
            found += self._older_v2(template, params)
        return list(dict.fromkeys(found))

    def _older(
        self, operation: str, template: str, params: Json, sdk: Json
    ) -> list[tuple[str, str]]:
        described = self._v1["paths"].get(template, {}).get("post")
        if described is None:
            return []
        content = described["requestBody"]["content"]["application/x-www-form-urlencoded"]
        schema = content["schema"]
        # The library is one release ahead; what only it knows is judged by its own types alone.
        newer = set(sdk.get("properties", {})) - set(schema.get("properties", {}))
        root = {"components": self._v1["components"]}
        validator = self._validator(f"v1 {operation}", schema, root)
        older = {key: value for key, value in params.items() if key not in newer}
        return [
            (".".join(map(str, error.instance_path)) or _named(error.message), error.message)
            for error in validator.iter_errors(older)
        ]

    def _older_v2(self, template: str, params: Json) -> list[tuple[str, str]]:
        described = self._v2["paths"].get(template, {}).get("post")
        if described is None:
            return []
        schema = described["requestBody"]["content"]["application/json"]["schema"]
        root = {"components": self._v2["components"]}
        validator = self._validator(f"v2 {template}", schema, root)
        # Ten months older: what is required has changed since, what has which type has not.
        return [
            (".".join(map(str, error.instance_path)), error.message)
            for error in validator.iter_errors(params)
            if error.kind.name != "required"
        ]

    def check_answer(self, operation: str, status: int, body: Json) -> None:
        """Hold the stand-in's own answer against the description; complaints become notes."""
        method, template = operation.split(" ", 1)
        described = (self._v1 if template.startswith("/v1/") else self._v2).get("paths", {})
        answer = described.get(template, {}).get(method)
        if answer is None or status != 200:
            return
        schema = answer["responses"]["200"]["content"]["application/json"]["schema"]
        v1 = template.startswith("/v1/")
        root = {"components": (self._v1 if v1 else self._v2)["components"]}
        validator = self._validator(f"answer {operation}", schema, root)
        # v2 spells "not included" as null, which its description leaves out.
        shown = body if v1 else _without_nulls(body)
        for error in validator.iter_errors(shown):
            if error.kind.name == "required" and _named(error.message) in body:
                # It is there, as a null.
                continue
            self.notes.append(
                {
                    "operation": operation,
                    "field": ".".join(map(str, error.instance_path)),
                    "complaint": error.message[:300],
                }
            )


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value


def _named(message: str) -> str:
    """The field that a message about the top level names."""
    found = re.search(r"'([^']+)'|\"([^\"]+)\"", message)
    return (found.group(1) or found.group(2)) if found else ""


def _made_by_the_library(key: str) -> bool:
    """Stripe's library fills a missing key with a random UUID; ours are of version 7."""
    try:
        return UUID(key).version == 4
    except ValueError:
        return False
