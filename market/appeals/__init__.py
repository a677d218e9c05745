"""Appeals: a second look, by somebody who had no part in the first, within a promised time."""
