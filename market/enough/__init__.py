"""Enough votes: when a claim needs no more of them, and whose is asked for next where it does."""
