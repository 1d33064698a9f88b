/* target.h - where names take mail: what the resolver said, and who waits for its answer. */
#ifndef SCHEDULER_TARGET_H
#define SCHEDULER_TARGET_H
#include "scheduler/scheduler.h"

enum target_state { TARGET_ASKED, TARGET_KNOWN, TARGET_TEMPORARY, TARGET_PERMANENT };

struct target {
	struct table_node node;       /* by server and name */
	struct table_node by_request; /* while TARGET_ASKED */
	unsigned server;
	enum target_state state;
	enum resolve_status status;
	struct mono expires;
	uint32_t request;
	uint64_t site;        /* identity of the MX set, and of the domain's own settings; TARGET_KNOWN */
	uint16_t destination; /* 1 + index into conf.destination: settings of the domain or its MX hosts; 0: none */
	char *text;           /* why not */
	char *hosts;          /* encoded, lib/hosts.h */
	size_t hosts_len;
	entry_index waiting;  /* entries that wait for the answer (direct) */
	bool is_sent;         /* the question is in the resolver's pipe */
	unsigned deaths;      /* of resolvers that had the question, in a row */
	unsigned releases;    /* how often its mail was set free since the last answer, because others had one */
	bool is_at_fault;     /* too many of either: the name is the cause, and nobody else's success changes that */
	bool is_lane_waiting; /* lanes of this server wait for it (relay) */
	char name[];
};

/* Fresh answer or TARGET_ASKED; asks the resolver when there is none. Borrowed until the loop turn ends. */
struct target *target_get(struct scheduler *s, unsigned server, const char *name);
/* Nothing was learnt, and DNS itself may be to blame: others' success may end that. */
bool target_is_dns_failure(const struct target *t);
void target_wait(struct scheduler *s, struct target *t, entry_index entry);
void target_on_resolved(struct scheduler *s, const struct msg_resolved *m);
/* A new resolver: everything that was asked is asked again, unless too many have died with the question. */
void target_ask_again(struct scheduler *s);
/* The resolver's pipe has room again (arg: struct scheduler). */
void target_ask_unsent(void *arg);
#endif
