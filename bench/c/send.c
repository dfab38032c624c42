/* send INTERFACE FRAMES [options]: frames out of a file onto a wire of the bench.
 *
 * FRAMES holds frames one after the other, each behind its length (u16, host order).
 *   --rate N       frames a second; 0, the default: as fast as it goes
 *   --count N      how many; default: the file once
 *   --seconds S    stop after so long
 *   --spoof A      A, A+1, ... (as u32, in a scrambled order of 2^24) as IPv4 sources
 *   --stamps FILE  the moment before each frame left, u64 ns of CLOCK_MONOTONIC
 * The end, or SIGTERM, prints {"sent": ..., "seconds": ..., "errors": ...}.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "guard.h"

#define BATCH 64
#define MAX_FRAME 1514
#define AT_SOURCE 26   /* behind 14 bytes of Ethernet */
#define AT_CHECKSUM 24
#define AT_PROTOCOL 23
#define AT_TCP_CHECKSUM 50
#define AT_UDP_CHECKSUM 40

struct frame {
	uint16_t size;
	const uint8_t *bytes;
};

static volatile sig_atomic_t stopped;

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

static uint64_t now_ns(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1000000000ull + at.tv_nsec;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static struct frame *load(const char *path, size_t *count)
{
	FILE *file = fopen(path, "rb");
	struct frame *frames = NULL;
	uint8_t *data;
	long size, offset = 0;
	size_t room = 0;

	if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) <= 0)
		fail(path);
	rewind(file);
	data = malloc(size);
	if (!data || fread(data, 1, size, file) != (size_t)size)
		fail(path);
	fclose(file);
	for (*count = 0; offset + 2 <= size; ++*count) {
		uint16_t length;

		memcpy(&length, data + offset, 2);
		if (length > MAX_FRAME || offset + 2 + length > size) {
			fprintf(stderr, "%s: a frame's length lies\n", path);
			exit(1);
		}
		if (*count == room) {
			room = room ? 2 * room : 1024;
			frames = realloc(frames, room * sizeof(*frames));
			if (!frames)
				fail("realloc");
		}
		frames[*count] = (struct frame){length, data + offset + 2};
		offset += 2 + length;
	}
	return frames;
}

/* RFC 1624, equation 3, for one 32-bit field. */
static void change_checksum(uint8_t *at, uint32_t old, uint32_t new)
{
	uint32_t sum = (uint16_t)~(at[0] << 8 | at[1]);

	sum += (uint16_t)~(old >> 16) + (uint16_t)~old + (uint16_t)(new >> 16) + (uint16_t)new;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~sum;
	at[0] = sum >> 8;
	at[1] = sum;
}

static void set_source(uint8_t *frame, uint32_t source)
{
	uint32_t old;

	memcpy(&old, frame + AT_SOURCE, 4);
	old = ntohl(old);
	change_checksum(frame + AT_CHECKSUM, old, source);
	change_checksum(frame + (frame[AT_PROTOCOL] == 6 ? AT_TCP_CHECKSUM : AT_UDP_CHECKSUM), old, source);
	source = htonl(source);
	memcpy(frame + AT_SOURCE, &source, 4);
}

/* A sender elsewhere would not be kept waiting by what it triggers here. */
static void keep_pace(void)
{
	struct sched_param first = {.sched_priority = 1};

	sched_setscheduler(0, SCHED_FIFO, &first);
	prctl(PR_SET_TIMERSLACK, 1000);
}

static int open_wire(const char *name)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(name)};
	int on = 1, fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)))
		fail(name);
	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on));
	return fd;
}

static void wait_until(uint64_t due)
{
	while (!stopped) {
		uint64_t at = now_ns();
		struct timespec pause = {0};

		if (at >= due)
			return;
		if (due - at < 60000)
			continue;
		pause.tv_nsec = due - at - 50000 > 999999999 ? 999999999 : due - at - 50000;
		nanosleep(&pause, NULL);
	}
}

int main(int argc, char **argv)
{
	static const struct option OPTIONS[] = {
		{"rate", 1, 0, 'r'}, {"count", 1, 0, 'c'}, {"seconds", 1, 0, 's'},
		{"spoof", 1, 0, 'p'}, {"stamps", 1, 0, 't'}, {0, 0, 0, 0},
	};
	static uint8_t copies[BATCH][MAX_FRAME];
	struct mmsghdr messages[BATCH] = {0};
	struct iovec parts[BATCH];
	uint64_t rate = 0, count = 0, sent = 0, errors = 0, begin, end = UINT64_MAX;
	double seconds = 0;
	uint32_t spoof = 0;
	FILE *stamps = NULL;
	struct frame *frames;
	size_t known;
	unsigned int batch = BATCH;
	int option, fd;

	while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
		switch (option) {
		case 'r': rate = strtoull(optarg, NULL, 10); break;
		case 'c': count = strtoull(optarg, NULL, 10); break;
		case 's': seconds = strtod(optarg, NULL); break;
		case 'p': spoof = strtoul(optarg, NULL, 10); break;
		case 't': stamps = fopen(optarg, "wb"); if (!stamps) fail(optarg); break;
		default: return 2;
		}
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: send INTERFACE FRAMES [options]\n");
		return 2;
	}
	require_bench_interface(argv[optind]);
	frames = load(argv[optind + 1], &known);
	fd = open_wire(argv[optind]);
	signal(SIGTERM, stop);
	if (!count)
		count = seconds ? UINT64_MAX : known;
	if (rate)
		keep_pace();
	if (rate)
		batch = rate / 5000 < 1 ? 1 : rate / 5000 > BATCH ? BATCH : rate / 5000;
	for (unsigned int i = 0; i < BATCH; i++) {
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}

	begin = now_ns();
	if (seconds)
		end = begin + (uint64_t)(seconds * 1e9);
	while (sent < count && !stopped && now_ns() < end) {
		unsigned int size = count - sent < batch ? count - sent : batch, done = 0;

		for (unsigned int i = 0; i < size; i++) {
			const struct frame *frame = &frames[(sent + i) % known];

			parts[i] = (struct iovec){(void *)frame->bytes, frame->size};
			if (spoof) {
				memcpy(copies[i], frame->bytes, frame->size);
				set_source(copies[i], spoof + ((sent + i) * 7368787 & 0xffffff));
				parts[i].iov_base = copies[i];
			}
		}
		if (rate)
			wait_until(begin + sent * 1000000000 / rate);
		for (unsigned int i = 0; stamps && i < size; i++) {
			uint64_t at = now_ns();

			fwrite(&at, sizeof(at), 1, stamps);
		}
		while (done < size && !stopped) {
			int went = sendmmsg(fd, messages + done, size - done, 0);

			if (went > 0) {
				done += went;
			} else {
				errors++;
				if (errno != ENOBUFS && errno != EAGAIN)
					fail("sendmmsg");
			}
		}
		sent += done;
	}
	printf("{\"sent\": %llu, \"seconds\": %.6f, \"errors\": %llu}\n", (unsigned long long)sent,
	       (now_ns() - begin) / 1e9, (unsigned long long)errors);
	if (stamps)
		fclose(stamps);
	return 0;
}
