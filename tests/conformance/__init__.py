"""Which scenario shows which requirement, and whether it holds: `python -m tests.conformance`."""
