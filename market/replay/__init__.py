"""A recorded or generated market, sent through the real service from brief to bank."""
