"""Disputes about time and its pay: who says what, who decides, and until when."""
