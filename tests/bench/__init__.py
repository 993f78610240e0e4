"""Measurements, for people: nothing here is asserted. `nox -s bench`."""
