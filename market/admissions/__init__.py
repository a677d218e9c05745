"""Admissions: who begins where forecast work is enough for one more, and what it is promised."""
