"""Lift: what training on delivered items did, by batches that were drawn at random."""
