"""How the database came to be: numbered steps, each reversible."""
