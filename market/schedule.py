"""TABLE: time -> the job that runs then."""

from market.clock import Entry

TIMETABLE: tuple[Entry, ...] = ()
