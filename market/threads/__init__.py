"""Talk about a piece of work: pinned to a place in it, by side and not by name, until resolved."""
