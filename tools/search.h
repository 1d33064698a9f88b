/* search.h - a search of the resolver's, run to its end; for programs that do one thing after another. */
#ifndef TOOLS_SEARCH_H
#define TOOLS_SEARCH_H
#include "resolver/dns.h"
#include "resolver/mx.h"

/* For mx_start(): it only orders equals. */
uint64_t search_seed(void);
/* `mx` was started. True: its status is set. False after deadline_ms (0: there is none). */
bool search_run(struct loop *loop, struct dns *dns, struct mx_search *mx, uint64_t deadline_ms) MUST_CHECK;
/* One question, waited for as long as dns.timeout says; *answer is filled whatever becomes of it. */
void search_ask(struct loop *loop, struct dns *dns, const char *name, uint16_t type, struct wire_answer *answer);
#endif
