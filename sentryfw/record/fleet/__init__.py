"""The rows of the ledger about a fleet."""
