"""The training objectives and what each exit weighs in them."""
