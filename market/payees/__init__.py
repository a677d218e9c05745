"""Who can be paid: where an expert is paid, what Stripe still needs, and what waits to be sent."""
