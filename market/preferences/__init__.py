"""Preferences that raters handed in: which source wins, as it is and with style held equal."""
