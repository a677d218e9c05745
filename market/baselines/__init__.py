"""Baselines: experts and a model at the same items, and what follows where nobody is above it."""
