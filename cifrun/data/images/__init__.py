"""Images: grey levels and where their files come from."""
