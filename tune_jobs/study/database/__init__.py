"""Where the study lies, and which launcher holds it."""
