"""Cases about pay that was wrong, decided by a second person, and what is recovered after them."""
