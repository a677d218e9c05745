"""Time that is contested by a lab, or asked for by an expert: what opens a dispute."""
