"""The report of a search as one self-contained HTML page: the answer, tables and figures."""
