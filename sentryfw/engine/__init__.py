"""The verdict engine: pure. Bytes and a clock value in, values out; no I/O, no clock."""
