"""What the command line can do, one module for each command and each check before it."""
