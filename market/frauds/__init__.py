"""Cases of fraud: heard, decided by a second person, appealed before a third; they void work."""
