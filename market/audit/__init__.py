"""Who looked at whose data and what ops changed: an append-only log, linked by digests."""
