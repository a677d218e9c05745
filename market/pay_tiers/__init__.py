"""Pay tiers: how an expert steps from one to another, announced before it is a step down."""
