"""The books as a whole: what they come to, and whether everything in them is true."""
