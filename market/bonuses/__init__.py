"""Bonuses that a lab gives: many at once, each with its own verdict, in the same ledger as pay."""
