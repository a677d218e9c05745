"""Candidates: who could take what now, what each pair is worth, and how pairs become offers."""
