"""What each expert is owed, line by line: from time to pay."""
