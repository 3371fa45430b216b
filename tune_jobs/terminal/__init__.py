"""What the user reads while a search runs, and the signals they send."""
