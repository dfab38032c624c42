"""Webhooks: collected here, sent by a process of their own, so that the daemon stays small."""
