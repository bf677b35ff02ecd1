"""Files, text tables and table files."""
