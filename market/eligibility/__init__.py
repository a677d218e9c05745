"""Eligibility: whom a project takes, in steps that widen while nobody claims a task."""
