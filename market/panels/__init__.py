"""Panels: the further models of a project that every question is put to, and what beats them."""
