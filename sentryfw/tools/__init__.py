"""Tools: replay, drill, PortSentry import, exports and the report."""
