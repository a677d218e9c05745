"""The history of every machine in one shape, and what stood at any time."""
