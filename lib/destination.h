/* destination.h - which destination {} is about a domain, and what these blocks ask of a server; pure. */
#ifndef LIB_DESTINATION_H
#define LIB_DESTINATION_H
#include "lib/conf.h"
#include "lib/hosts.h"

/* Of mail for `domain` at `hosts` by a direct server: its own block, else the first that names one of the hosts. NULL:
 * none. */
const struct conf_destination *destination_find(const struct conf *conf, const char *domain, const struct hosts *hosts);
/* The level of TLS that a server has to be ready for: its own, or the most that a destination of its demands. */
enum conf_tls destination_highest_tls(const struct conf *conf, const struct conf_server *server);
/* The port whose TLSA records matter to this server: those of MX hosts, and of a relay that is told to have them. 0:
 * none. */
unsigned destination_tlsa_port(const struct conf *conf, const struct conf_server *server);
#endif
