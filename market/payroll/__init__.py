"""What everybody earned in some pay weeks, for whoever does the payroll."""
