"""What a lab was charged, line by line: each line is one line of pay, its fee and its entry."""
