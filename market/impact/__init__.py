"""Impact: what accepted work was worth to its projects, and who makes the difference."""
