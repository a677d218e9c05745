"""Availability: the hours of the week in which an expert works, and when it is away."""
