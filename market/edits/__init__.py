"""Edits: what became of drafts that experts began from: distance, regions, untouched share."""
