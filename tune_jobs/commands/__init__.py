"""Commands of the command line: one module for each command, and for each step that they share."""
