"""Offers: a chosen pair put to its expert, with terms that bind, until a deadline."""
