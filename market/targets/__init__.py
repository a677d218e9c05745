"""Service targets: what labs and ops want of speed, volume, quality and queues, and each miss."""
