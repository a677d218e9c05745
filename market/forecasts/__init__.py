"""Forecasts: when a project is done, what it costs, and when work comes to an expert."""
