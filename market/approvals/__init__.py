"""Lines of pay on their way: locked weeks, approval by a lab or its silence, settled time."""
