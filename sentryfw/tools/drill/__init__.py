"""The drill: two private hosts, the operator's configuration, the real daemon, real scans."""

from sentryfw.tools.drill.run import AttackResult, Progress, Step, plan, run
from sentryfw.tools.drill.supervisor import supervise

__all__ = ["AttackResult", "Progress", "Step", "plan", "run", "supervise"]
