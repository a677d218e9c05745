"""Votes: what reviewers say of submissions, and what it comes to."""
