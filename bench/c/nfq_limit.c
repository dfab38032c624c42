/* nfq_limit QUEUE: the limit for whoever reads an NFQUEUE: libnetfilter_queue, the same copy
 * range and buffers as SentryFW's, and NF_DROP, one verdict a packet. Judges nothing. */

#include <arpa/inet.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static int verdict(struct nfq_q_handle *queue, struct nfgenmsg *message, struct nfq_data *packet,
		   void *unused)
{
	struct nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(packet);
	unsigned char *payload;

	(void)message;
	(void)unused;
	nfq_get_payload(packet, &payload);
	return nfq_set_verdict(queue, ntohl(header->packet_id), NF_DROP, 0, NULL);
}

int main(int argc, char **argv)
{
	static char buffer[4096] __attribute__((aligned));
	struct nfq_handle *handle = nfq_open();
	struct nfq_q_handle *queue;
	int fd, size = 16 << 20;

	if (argc != 2 || !handle)
		return 2;
	queue = nfq_create_queue(handle, atoi(argv[1]), verdict, NULL);
	if (!queue || nfq_set_mode(queue, NFQNL_COPY_PACKET, 512) < 0 ||
	    nfq_set_queue_maxlen(queue, 16384) < 0) {
		perror("nfq_limit");
		return 1;
	}
	fd = nfq_fd(handle);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	puts("ready");
	fflush(stdout);
	for (;;) {
		ssize_t got = recv(fd, buffer, sizeof(buffer), 0);

		if (got > 0)
			nfq_handle_packet(handle, buffer, got);
	}
}
