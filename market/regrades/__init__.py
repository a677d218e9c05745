"""Re-grades: sittings graded again, because a key was wrong or an item was withdrawn."""
