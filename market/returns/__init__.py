"""Returns: a lab or ops ask for a task back, by a time, and say what silence means."""
