/* watch FILE: every change that nf_tables announces in this network namespace, with the moment
 * it was read: u64 ns of CLOCK_MONOTONIC, u32 length, the netlink messages. Until SIGTERM. */

#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static FILE *out;

static void stop(int number)
{
	(void)number;
	fflush(out);
	_exit(0);
}

int main(int argc, char **argv)
{
	static uint8_t buffer[1 << 18];
	struct sockaddr_nl address = {.nl_family = AF_NETLINK};
	int group = NFNLGRP_NFTABLES, size = 64 << 20;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);

	out = argc == 2 ? fopen(argv[1], "wb") : NULL;
	if (fd < 0 || !out || bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group))) {
		perror("watch");
		return 1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	signal(SIGTERM, stop);
	puts("ready");
	fflush(stdout);
	for (;;) {
		ssize_t got = recv(fd, buffer, sizeof(buffer), 0);
		struct timespec at;
		uint64_t ns;
		uint32_t length = got;

		if (got <= 0)
			continue; /* ENOBUFS: changes were lost; the figures show them as not blocked */
		clock_gettime(CLOCK_MONOTONIC, &at);
		ns = at.tv_sec * 1000000000ull + at.tv_nsec;
		fwrite(&ns, sizeof(ns), 1, out);
		fwrite(&length, sizeof(length), 1, out);
		fwrite(buffer, 1, got, out);
		fflush(out);
	}
}
