"""What the benches of matching share: problems from files."""
