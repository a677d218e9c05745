"""Matching runs: who could take what, what the matcher chose, why, and the offers it made."""
