"""Experiments: two ways side by side on experts or projects, with guardrails that stop them."""
