#!/bin/sh
# PortSentry 1.2 in advanced mode (-atcp), its most sensitive: the first probe triggers.
set -eu
nft -f - <<EOF
table inet portsentry {
	set blocked {
		type ipv4_addr
	}
	chain prerouting {
		type filter hook prerouting priority raw; policy accept;
		ip saddr @blocked drop
	}
}
EOF
mkdir -p /var/lib/portsentry
portsentry -atcp
exec sleep infinity
