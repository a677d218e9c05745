"""Item banks: the items of qualification tests, their keys, their calibration, what looks wrong."""
