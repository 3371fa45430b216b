"""Durable state of a search, and all decisions made from it."""
