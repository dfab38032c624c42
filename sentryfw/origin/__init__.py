"""Origins of sources: country, autonomous system, labels; shown, never a reason for a verdict."""
