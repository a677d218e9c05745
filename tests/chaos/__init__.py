"""A market under which everything dies, and comes back: `python -m tests.chaos --help`."""
