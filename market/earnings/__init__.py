"""What each expert is owed and how it is paid; what labs pay in; Stripe's answers."""
