"""Stumps: submissions with their evidence, votes and verdicts, as their readers see them."""
