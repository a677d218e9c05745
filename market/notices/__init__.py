"""What happened, told to whom it concerns: as a list, and as a stream that can be resumed."""
