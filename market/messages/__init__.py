"""Words to a cohort: counted first, sent once to each person, in the way that it chose."""
