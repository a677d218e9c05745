"""Card disputes of labs' payments: what was taken, what is withheld, and our answer to the bank."""
