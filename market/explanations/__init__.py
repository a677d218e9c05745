"""Explanations: why a run put an expert on a task or did not, and what keeps a pair apart now."""
