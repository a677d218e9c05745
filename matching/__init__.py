"""Matching: arrays in, an assignment out; no database, no network, no clock."""
