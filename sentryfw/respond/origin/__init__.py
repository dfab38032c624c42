"""Origins of sources for mails, messages and events: found by another process."""
