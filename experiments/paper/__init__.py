"""What the paper says: its digitised curves and the ledger of its claims."""
