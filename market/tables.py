"""Every table of this package, imported once, so that the migrations can be compared with them."""

from importlib import import_module
from pkgutil import iter_modules

import market
from market import broker, clock, events, feeds, imports, lease, once, operations
from market.db import Base

__all__ = ["FEATURES", "Base"]

FEATURES = tuple(
    sorted(
        found.name
        for found in iter_modules(market.__path__)
        if found.ispkg and found.name not in ("console", "replay")
    )
)
"""The nouns of the business: the folders of this package that hold tables."""

_MACHINERY = (broker, clock, events, feeds, imports, lease, once, operations)

for _feature in FEATURES:
    if any(found.name == "models" for found in iter_modules([f"{market.__path__[0]}/{_feature}"])):
        import_module(f"market.{_feature}.models")
