"""Qualifications: what people have been shown to know or to judge well, by tests."""
