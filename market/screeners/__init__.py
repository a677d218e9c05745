"""Screeners: what ends a task early for whoever it does not fit, and what that pays."""
