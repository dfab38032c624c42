#!/bin/sh
# psad 2.4.6 on iptables log lines. Its documentation: log and drop what is not accepted, at the
# end of INPUT and FORWARD; ENABLE_AUTO_IDS; the lines may come from ulogd, as they must here
# because LOG does not write for a network namespace. Blocking at danger level 1 (5 packets)
# instead of 5 (10,000 packets): the earliest it can. Everything else as packaged.
set -eu
iptables -A INPUT -i lo -j ACCEPT
iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
iptables -A INPUT -p tcp --dport 80 -j ACCEPT
for chain in INPUT FORWARD; do
	iptables -A $chain -j NFLOG --nflog-group 0 --nflog-prefix "DROP "
	iptables -A $chain -j DROP
done
mkdir -p /var/log/psad /var/lib/psad /run/psad /etc/psad/archive
: > /var/log/psad/ulogd.log
ulogd -d -c /etc/ulogd-psad.conf
sed -i \
	-e 's|^HOSTNAME .*|HOSTNAME bench;|' \
	-e 's|^ENABLE_AUTO_IDS .*|ENABLE_AUTO_IDS Y;|' \
	-e 's|^AUTO_IDS_DANGER_LEVEL .*|AUTO_IDS_DANGER_LEVEL 1;|' \
	-e 's|^SYSLOG_DAEMON .*|SYSLOG_DAEMON ulogd;|' \
	-e 's|^AUTO_DETECT_JOURNALCTL .*|AUTO_DETECT_JOURNALCTL N;|' \
	-e 's|^ENABLE_FW_LOGGING_CHECK .*|ENABLE_FW_LOGGING_CHECK N;|' \
	-e 's|^ALERTING_METHODS .*|ALERTING_METHODS noemail;|' \
	-e 's|^ENABLE_WHOIS_LOOKUPS .*|ENABLE_WHOIS_LOOKUPS N;|' \
	-e 's|^ENABLE_DNS_LOOKUPS .*|ENABLE_DNS_LOOKUPS N;|' \
	/etc/psad/psad.conf
: > /run/utmp
psad || echo "psad ended with $?"
exec sleep infinity
