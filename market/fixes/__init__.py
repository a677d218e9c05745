"""Fixes: what a reviewer put in the place of an author's words, and whose part is how large."""
