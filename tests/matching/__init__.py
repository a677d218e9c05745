"""Tests of matching: values and bounds, judged by verify and by brute force."""
