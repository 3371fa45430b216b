"""The durable state of a search, and every decision made from it."""
