"""What leaves the house: for now, everybody's own list of what happened."""
