/* fleet_private.h - shared by fleet.c (the life of a session) and fleet_write.c (what is said). Words: store.lua. */
#ifndef LIMITER_FLEET_PRIVATE_H
#define LIMITER_FLEET_PRIVATE_H
#include "limiter/fleet.h"

enum {
	FLEET_BATCH = 100, /* counters in one call */
	FLEET_TROUBLE_MAX = 64
};

enum fleet_state { AWAY, JOINING, TELLING, MEMBER };
enum fleet_step { NOTHING, JOIN, TELL, SYNC, CORRECT };

struct correction_job {
	struct lease *lease[PERMITS_LIMITS_MAX];
	unsigned count;
	enum correction_kind what;
	uint64_t used, before;
	bool is_sent;
	enum fleet_correction state;
};

struct fleet {
	struct fleet_options o;
	char *id, *run, *epoch, *doubted;
	uint64_t sessions;
	enum fleet_state state;
	enum fleet_step step; /* under way */
	struct lease *asked[FLEET_BATCH];
	unsigned asked_count;
	int64_t sent_at, heard_at; /* the call under way; the last one that was answered */
	int64_t store_time, store_time_at, store_time_sent_at;
	int64_t not_before;
	uint64_t known, roll; /* versions: stored by us; told to us */
	bool has_begun;       /* the session: all that is under way has been told */
	bool has_told;        /* in this epoch: what was used before it */
	unsigned tell_at;
	struct correction_job correction;
	int64_t corrected; /* by all hosts, so often in this epoch */
	bool has_correction_news;
	char waits_for[256];
	char trouble[FLEET_TROUBLE_MAX + 1];
};

/* Each writes one call and notes that it is under way. */
void fleet_write_join(struct fleet *f, int64_t now, struct fleet_call *out);
void fleet_write_tell(struct fleet *f, int64_t now, struct fleet_call *out);
void fleet_write_sync(struct fleet *f, int64_t now, struct fleet_call *out);
void fleet_write_correction(struct fleet *f, int64_t now, struct fleet_call *out);
bool fleet_has_told_all(struct fleet *f); /* what is under way with every account */
#endif
