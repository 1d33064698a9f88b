/* deny.h - addresses that must never be connected to; pure.  RFC 4291 2.5.5, RFC 6052, RFC 3056 */
#ifndef LIB_DENY_H
#define LIB_DENY_H
#include "lib/conf.h"
#include "lib/hosts.h"

/*
 * Whether one of the blocks covers the address, or the IPv4 address that an IPv6 address stands for: v4-mapped
 * (::ffff:0:0/96), v4-compatible (::/96), NAT64 (64:ff9b::/96) and 6to4 (2002::/16). An IPv4 block therefore holds
 * whatever dress the address wears.
 */
bool deny_matches(const struct conf_cidr *deny, unsigned count, const struct host_address *address);
#endif
