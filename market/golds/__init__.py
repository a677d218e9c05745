"""Gold: tasks whose answer is known, put among others as hidden checks, at the same pay."""
