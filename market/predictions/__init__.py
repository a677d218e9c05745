"""Predictions: what is believed of a pair before it works, from what was decided before."""
