"""Moving over from PortSentry: its files in, a SentryFW configuration out. Nothing is changed."""
