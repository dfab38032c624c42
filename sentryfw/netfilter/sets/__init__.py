"""Access to the sets of the table: elements by key, counts, the sets that decisions fill."""
