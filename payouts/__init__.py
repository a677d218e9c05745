"""Money: a ledger, pay, and Stripe. It knows no expert, no task and no match."""
