"""Benchmarks: `python -m tests.bench NAME`, ratios to a baseline in the same run, as JSON."""
