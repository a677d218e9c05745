"""Submissions: what is handed in on an offer, from its draft on."""
