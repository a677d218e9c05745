"""Who does the work: profiles, domains, pay tiers and standing."""
