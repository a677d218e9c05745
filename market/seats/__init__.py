"""Seats: an accepted offer under work, until what was done is handed in or given back."""
