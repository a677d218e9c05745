"""Expressions: one language for who is eligible, which cohort someone is in, and list filters."""
