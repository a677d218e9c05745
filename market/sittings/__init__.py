"""Sittings: one person at one adaptive test, item by item, and what it says of them."""
