"""Reviews, consensus and stumps."""
