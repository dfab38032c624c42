"""Our table in the kernel: rulesets, sets, notifications, the packet queue."""
