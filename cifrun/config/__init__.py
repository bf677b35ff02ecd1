"""What can be set: the typed configuration, its fields, and the sentences for mistakes."""
