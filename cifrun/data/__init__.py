"""Where x comes from: toy targets with exact densities, tables, images."""
