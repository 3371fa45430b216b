"""The connected Ray cluster: what it holds, whether it answers, what is left behind on it."""
