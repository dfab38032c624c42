"""KILL_ROUTE and KILL_RUN_CMD: the purpose of a command, from its words."""

import pytest

from sentryfw.tools.portsentry.commands import purpose

SHIPPED = [
    ("/sbin/route add $TARGET$ 333.444.555.666", "route"),
    ("/sbin/route add -host $TARGET$ gw 333.444.555.666", "route"),
    ("/sbin/route add -host $TARGET$ reject", "route"),
    ("route add -net $TARGET$ -netmask 255.255.255.255 127.0.0.1 -blackhole", "route"),
    ("/usr/sbin/route add net $TARGET$ netmask 255.255.255.0 127.0.0.1", "route"),
    ("/sbin/ip route add blackhole $TARGET$", "route"),
    ("ip -6 route add unreachable $TARGET$", "route"),
    ("/sbin/ipfwadm -I -i deny -S $TARGET$ -o", "firewall"),
    ("/sbin/ipchains -I input -s $TARGET$ -j DENY -l", "firewall"),
    ("/sbin/iptables -I INPUT -s $TARGET$ -j DROP", "firewall"),
    ("/sbin/iptables -I INPUT -s $TARGET$ -j DROP && /sbin/iptables -I INPUT -j LOG", "firewall"),
    ("nftables add rule ip filter input ip saddr $TARGET$ drop", "firewall"),
    ("nft add element inet filter bad { $TARGET$ }", "firewall"),
    ("sudo /usr/sbin/nft add element inet filter bad { $TARGET$ }", "firewall"),
    ("/sbin/ipfw add 1 deny all from $TARGET$:255.255.255.255 to any", "firewall"),
    ("/bin/echo 'block in log on fxp0 from $TARGET$/32 to any' | /sbin/ipf -f -", "firewall"),
    ("/bin/echo 'block in log on em0 from $TARGET$/32 to any' | /sbin/pfctl -f -", "firewall"),
    ("/some/path/here/script $TARGET$ $PORT$ $MODE$", "command"),
    ("/usr/local/bin/route-report $TARGET$", "command"),
    ("/bin/mail -s 'scan from $TARGET$' root < /dev/null", "shell"),
    ("/bin/a $TARGET$ ; /bin/b", "shell"),
    ("/bin/a $TARGET$ | /bin/b", "shell"),
    ("script $TARGET$", "shell"),
    ("/bin/a 'unclosed", "shell"),
]


@pytest.mark.parametrize(("text", "kind"), SHIPPED, ids=[text[:60] for text, _ in SHIPPED])
def test_the_words_of_a_command_show_its_purpose(text: str, kind: str) -> None:
    assert purpose(text).kind == kind


def test_a_command_for_a_shell_has_a_reason() -> None:
    assert "needs a shell, and no shell is run" in purpose("/bin/a $TARGET$ | /bin/b").why
    assert "is not an absolute path" in purpose("script $TARGET$").why
