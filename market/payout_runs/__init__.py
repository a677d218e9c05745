"""Rounds of payouts: everybody who is owed something, a hundred at a time."""
