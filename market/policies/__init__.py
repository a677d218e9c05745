"""Policies: versioned weights and limits of the matcher, and which of them is the default."""
