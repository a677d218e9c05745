"""Recorded time after its session: shown, proven again, confirmed and taken out."""
