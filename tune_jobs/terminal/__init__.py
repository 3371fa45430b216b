"""Terminal output of a running search, and the signals that interrupt it."""
