"""Work sessions, time entries and submissions."""
