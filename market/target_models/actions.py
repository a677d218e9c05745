"""How a target model comes to be known, is asked from now on, and gets another version."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Session

from market.auth import keyring
from market.projects.models import TargetModel
from market.projects.queries import target_model
from market.projects.rules import (
    MAX_PRICE_MINOR,
    ModelVersion,
    ProjectFieldInvalid,
    check_base_url,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTerms:
    """How a target model is asked, as its lab writes it; `key=None` leaves the key as it is.

    Units: as in `TargetModel`.
    """

    name: str
    base_url: str
    model: str
    key: str | None = None
    timeout_s: int = 60
    max_tokens: int = 1024
    samples: int = 1
    price_in_minor: Decimal = Decimal(0)
    price_out_minor: Decimal = Decimal(0)
    cost_cap_minor: int = 0


def create_target_model(
    session: Session, organisation_id: UUID, terms: ModelTerms, *, at: datetime
) -> TargetModel:
    """A model that projects of this lab can test; its key is sealed before it is kept.

    Raises:
        BaseUrlInvalid.
    """
    made = TargetModel(
        organisation_id=organisation_id,
        name=terms.name,
        base_url="",
        model=terms.model,
        sealed_key=None,
        created_at=at,
    )
    _ask_by(made, terms)
    session.add(made)
    session.flush()
    return made


def change_target_model(session: Session, target_model_id: UUID, terms: ModelTerms) -> TargetModel:
    """Replace how a target model is asked, from the next attempt on.

    Raises:
        TargetModelNotFound, BaseUrlInvalid.
    """
    found = target_model(session, target_model_id, lock=True)
    _ask_by(found, terms)
    found.version += 1
    session.flush()
    return found


def create_version(
    session: Session, earlier: TargetModel, version: ModelVersion, *, at: datetime
) -> TargetModel:
    """Another version of a target model: asked as the earlier one is, but for what is new.

    The key goes along only to the address that it was given for.

    Raises:
        BaseUrlInvalid.
    """
    made = create_target_model(
        session,
        earlier.organisation_id,
        ModelTerms(
            name=version.name,
            base_url=version.base_url or earlier.base_url,
            model=version.model,
            key=version.key,
            timeout_s=earlier.timeout_s,
            max_tokens=earlier.max_tokens,
            samples=earlier.samples,
            price_in_minor=earlier.price_in_minor,
            price_out_minor=earlier.price_out_minor,
            cost_cap_minor=earlier.cost_cap_minor,
        ),
        at=at,
    )
    if version.key is None and made.base_url == earlier.base_url:
        made.sealed_key = earlier.sealed_key
        session.flush()
    return made


def _ask_by(model: TargetModel, terms: ModelTerms) -> None:
    check_base_url(terms.base_url)
    for field in ("price_in_minor", "price_out_minor"):
        price: Decimal = getattr(terms, field)
        if not price.is_finite() or not 0 <= price <= MAX_PRICE_MINOR:
            raise ProjectFieldInvalid(field, f"0 to {MAX_PRICE_MINOR} minor units of USD")
    model.name = terms.name.strip()
    model.base_url = terms.base_url.rstrip("/")
    model.model = terms.model
    model.timeout_s = terms.timeout_s
    model.max_tokens = terms.max_tokens
    model.samples = terms.samples
    model.price_in_minor = terms.price_in_minor
    model.price_out_minor = terms.price_out_minor
    model.cost_cap_minor = terms.cost_cap_minor
    if terms.key is not None:
        model.sealed_key = keyring.seal(terms.key.encode()) if terms.key else None
