"""The entry point of `python -m sentryfw`."""

from sentryfw.cli.app import main

main()
