"""Training objectives, and the weights of exits in them."""
