"""What labs pay in, what became of it, and what goes back."""
