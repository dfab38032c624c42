"""What is kept of decisions: the ledger (why, until when) and the event stream."""
