"""What a search found, in words, tables and pictures, all read from its snapshot."""
