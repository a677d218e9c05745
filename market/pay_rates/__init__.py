"""What an hour was paid on average, by project, lab, domain or tier, and how much was judged."""
