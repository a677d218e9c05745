"""Snapshots: what a lab takes away of a project's accepted work, and what that delivers."""
