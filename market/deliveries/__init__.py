"""Webhooks: what happened, sent to whoever asked for it, signed, and sent until it arrives."""
