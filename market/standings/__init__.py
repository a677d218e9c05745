"""Standing: what is done about somebody, on what evidence, how far it reaches and how it ends."""
