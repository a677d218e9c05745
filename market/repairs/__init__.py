"""Repairs: what experts say of tasks that they skip, and what becomes of those tasks."""
