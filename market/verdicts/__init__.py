"""Verdicts: what was decided on submissions, and what follows for seats, tasks and attempts."""
