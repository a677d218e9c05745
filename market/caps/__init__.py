"""How often work reaches the longest time that a project pays for, and what cap would fit it."""
