"""Databases of studies, and the lock of the launcher."""
