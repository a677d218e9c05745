"""Re-grades: what may follow from one; pure."""

EFFECTS = ("none", "granted", "pass_kept", "held")
"""What a re-grade did to the qualification: a pass that it no longer bears out is kept, for ops to
look at; a denial that a retake stands in the place of is left."""
