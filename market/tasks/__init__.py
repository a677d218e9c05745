"""One piece of work of a project, the seats it has for experts, and how many come in at once."""
