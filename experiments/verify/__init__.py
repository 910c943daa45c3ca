"""Published runs trained again here, and what that says of the records."""
