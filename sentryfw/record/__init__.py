"""Records of decisions: the ledger (why, until when), the event stream, captures, the journal."""
