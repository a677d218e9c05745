"""Pay for the time of tests and of baselines, from their own clock."""
