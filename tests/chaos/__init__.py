"""Seeded soak test: kills parts of a real search at random times, then checks invariants."""
