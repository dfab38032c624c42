"""Lists of addresses of other programs, read for `sentryfw import`. Bytes in, values out."""
