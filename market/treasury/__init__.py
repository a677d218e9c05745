"""Money at the bank: what labs pay in, who can be paid, payout runs, and what Stripe says."""
