"""A search as one HTML page that needs nothing else: figures, tables, and what follows from them in words."""
