"""Files of experts, taken in at once, with a verdict on each row."""
