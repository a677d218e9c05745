"""Money at the bank: payouts one by one, what holds them, and what Stripe says."""
