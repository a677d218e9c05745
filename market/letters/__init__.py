"""Webhook messages on their way: what an attempt carries, how it went, what follows from that."""
