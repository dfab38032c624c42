"""The import from PortSentry: its files in, a SentryFW configuration out; no file is changed."""
