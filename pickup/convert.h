/* convert.h - one dropped file read, checked, and written as a queue file.  Large ones are streamed, twice. */
#ifndef PICKUP_CONVERT_H
#define PICKUP_CONVERT_H
#include "lib/conf.h"
#include "pickup/header.h"
#include <sys/stat.h>

enum {
	CONVERT_CHUNK_BYTES =
		256 * 1024,              /* a file up to this is read once and held; so is every read of a larger one */
	CONVERT_KEEP_BYTES = 1024 * 1024 /* memory kept from message to message */
};

enum convert_result {
	CONVERT_DONE,
	CONVERT_REJECTED, /* header.reason says why */
	CONVERT_CHANGED,  /* somebody wrote to it meanwhile: take it later */
	CONVERT_FAILED    /* errno: our side, nothing to do with the message */
};

/* Reused from message to message. */
struct converter {
	const struct conf *conf;
	struct header header;
	struct buf in;   /* what was read: the header, and the body as far as it came with it */
	struct buf out;  /* body as it goes on the wire, a chunk at a time */
	struct buf head; /* of the queue file */
};

struct convert_source {
	int fd;
	struct stat st;
	uint64_t id;
	uint32_t uid;
	struct slice account; /* header.h */
};

void converter_init(struct converter *c, const struct conf *conf);
void converter_release(struct converter *c);
/*
 * Writes dirfd/new_path, which must not exist, mode SPOOL_COMPLETE_MODE. DONE: *new_fd is open, not yet synced, the
 * caller's; the envelope is in c->header until the next call. Else nothing is left behind.
 */
enum convert_result convert_file(struct converter *c, const struct convert_source *source, int dirfd,
				 const char *new_path, int *new_fd) MUST_CHECK;
#endif
