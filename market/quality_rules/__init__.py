"""Quality rules: a signal, a condition on it, and what is done about whom it holds for."""
