"""The records that runs leave behind, and where they are kept."""
