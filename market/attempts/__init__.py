"""Target models asked, and their answers kept as evidence."""
