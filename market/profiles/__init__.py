"""Quality profiles of people, and how long work stays in each stage."""
