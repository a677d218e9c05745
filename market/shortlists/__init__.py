"""Shortlists: for each task the few people worth a closer look, found by the database alone."""
