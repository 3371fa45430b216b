"""Results of a search as text, tables and figures, computed from its snapshot."""
