"""How far people agree with each other, and the automatic judge with people."""
