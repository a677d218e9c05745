"""What people are told: a list for each of them, and letters by e-mail, at once or as a digest."""
