#!/bin/sh
# fail2ban 1.0.2 on the reports of scanlogd 2.2.8, both as packaged, save for jail.local.
set -eu
: > /var/log/scanlogd.log
mkdir -p /run/scanlogd/empty /run/fail2ban /var/lib/fail2ban /var/spool/rsyslog
grep -q '^scanlogd:' /etc/passwd || echo 'scanlogd:x:64999:64999::/run/scanlogd:/bin/false' >> /etc/passwd
grep -q '^scanlogd:' /etc/group || echo 'scanlogd:x:64999:' >> /etc/group
rsyslogd -f /etc/rsyslog-bench.conf -i /run/rsyslogd.pid
scanlogd
exec fail2ban-server -xf --loglevel INFO --logtarget /var/log/fail2ban.log start
