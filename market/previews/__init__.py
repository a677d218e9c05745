"""Previews: what recorded runs would have done under another policy, and searches for a better."""
