"""Review plans: how much of a project's work is reviewed, by whom, and how it was drawn."""
