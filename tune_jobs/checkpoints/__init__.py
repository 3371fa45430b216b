"""Where checkpoints lie, which of them are valid, and which a search keeps."""
