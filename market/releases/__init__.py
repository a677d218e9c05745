"""Releases: a lab's target model has a new version, and what is believed of it before and after."""
