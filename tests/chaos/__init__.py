"""A seeded soak: a real search is disturbed at random moments, and what must hold all the same is checked."""
