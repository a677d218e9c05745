"""Pages for ops, labs and experts, over the same actions and queries as the API."""
