"""Alarms: what ops must look at in the estimates, and the readings that they are raised from."""
