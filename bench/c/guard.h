/* Where the generators may send: nowhere but into a namespace that the bench made. */

#ifndef BENCH_GUARD_H
#define BENCH_GUARD_H

/* Exits with code 3 and a reason unless this process is in another network namespace than
 * pid 1 and everything between, and the interface is a veth with the hardware address that only the bench gives. */
void require_bench_interface(const char *name);

#endif
