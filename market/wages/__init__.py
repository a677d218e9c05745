"""What work came to an hour, over all the minutes that went into it."""
