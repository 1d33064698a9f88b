/* incarnation.c - see incarnation.h. The journal's note "incarnation" tells inode and birth of the file that it is in.
 */
#include "scheduler/incarnation.h"
#include "lib/log.h"
#include "lib/store_files.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static const char NOTE[] = "incarnation";

/* Where a file system keeps no time of birth, the inode alone. False: it cannot be told. */
static bool read_identity(const struct scheduler *s, struct buf *out)
{
	struct statx st;

	if (statx(s->spool_fd, "db/queue/" STORE_RECORDS_FILE, AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &st) < 0) {
		log_warn("cannot tell whether this spool was copied: %s", strerror(errno));
		return false;
	}
	if (!(st.stx_mask & STATX_BTIME))
		st.stx_btime.tv_sec = st.stx_btime.tv_nsec = 0;
	buf_printf(out, "%llu %lld.%09u", (unsigned long long)st.stx_ino, (long long)st.stx_btime.tv_sec,
		   st.stx_btime.tv_nsec);
	return true;
}

static bool hold(struct scheduler *s, entry_index i)
{
	struct entry *e = entry_get(s->entries, i);
	struct record *r =
		e->place == ENTRY_HEAP || e->place == ENTRY_LISTED ? journal_get(s->journal, e->id, e->group) : NULL;
	enum store_result result;

	if (!r)
		return false;
	if (e->place == ENTRY_HEAP)
		entries_remove(s->entries, i);
	e->place = ENTRY_HELD;
	record_hold(r);
	result = journal_put(s->journal, r);
	record_free(&r);
	if (result != STORE_OK)
		scheduler_fail(s, result, "holding the mail of a copied spool");
	return true;
}

static void hold_all(struct scheduler *s)
{
	unsigned held = 0;

	for (entry_index i = 1; i < entries_limit(s->entries); i++)
		held += hold(s, i);
	s->newborn = 0; /* they are among them */
	log_error("this spool is a copy, or was brought back from a backup: its mail may have been delivered since. %u "
		  "deliveries are held: `postern queue` shows them, `postern release --all` sends them",
		  held);
}

void incarnation_check(struct scheduler *s)
{
	struct buf now, known;
	bool is_known;

	buf_init(&now, 80);
	buf_init(&known, 80);
	if (read_identity(s, &now)) {
		is_known = journal_get_note(s->journal, NOTE, &known);
		if (is_known && !slice_equal(buf_slice(&now), buf_slice(&known)))
			hold_all(s);
		if ((!is_known || !slice_equal(buf_slice(&now), buf_slice(&known))) &&
		    journal_put_note(s->journal, NOTE, buf_slice(&now)) != STORE_OK)
			log_warn("no room to write down which spool this is");
	}
	buf_release(&now);
	buf_release(&known);
}
