"""What a lab wants: brief, domains, budget, rates, rounds, and the model under test."""
