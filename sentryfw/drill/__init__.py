"""The fire drill: two private hosts, the operator's configuration, the real daemon, real scans."""

from sentryfw.drill.run import Progress, Result, run

__all__ = ["Progress", "Result", "run"]
