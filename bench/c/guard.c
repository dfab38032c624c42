#include "guard.h"

#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Locally administered, "SFWB"; bench/lab.py gives it to both ends of its wire. */
static const unsigned char MARK[5] = {0x02, 0x53, 0x46, 0x57, 0x42};

static void refuse(const char *name, const char *why)
{
	fprintf(stderr, "refused: %s: %s\n", name, why);
	exit(3);
}

/* The process above; 0 above pid 1. */
static int parent_of(int pid)
{
	char path[64], line[256];
	int parent = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "PPid: %d", &parent) == 1)
			break;
	if (file)
		fclose(file);
	return parent;
}

/* Every process above us up to pid 1 must be in another namespace: the bench itself stays where
 * it was started. Where pid 1 does not let itself be looked at, those below it must do. */
static void require_other_namespace(const char *name)
{
	struct stat own, other;
	char path[64];
	int known = 0;

	if (stat("/proc/self/ns/net", &own))
		refuse(name, "cannot tell which network namespace this is");
	for (int pid = getppid(); pid > 0; pid = parent_of(pid)) {
		snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
		if (stat(path, &other))
			continue;
		known++;
		if (own.st_ino == other.st_ino && own.st_dev == other.st_dev)
			refuse(name, "this is the network namespace of the host, not one that the bench made");
	}
	if (!known)
		refuse(name, "cannot tell this network namespace from the host's");
}

void require_bench_interface(const char *name)
{
	struct ethtool_drvinfo driver = {.cmd = ETHTOOL_GDRVINFO};
	struct ifreq request = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		refuse(name, "no socket");
	require_other_namespace(name);
	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(fd, SIOCGIFHWADDR, &request))
		refuse(name, "no such interface");
	if (memcmp(request.ifr_hwaddr.sa_data, MARK, sizeof(MARK)))
		refuse(name, "not the bench's: its hardware address is not 02:53:46:57:42:*");
	request.ifr_data = (void *)&driver;
	if (ioctl(fd, SIOCETHTOOL, &request) || strcmp(driver.driver, "veth"))
		refuse(name, "not a veth");
	close(fd);
}
