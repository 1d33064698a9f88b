/* judge.c - is a file in drop/ complete? What events, leases and time stamps say about it. */
#include "lib/buf.h"
#include "lib/log.h"
#include "lib/text.h"
#include "pickup/scan_parts.h"
#include "pickup/writers.h"
#include <fcntl.h>
#include <unistd.h>

static int64_t now_ms(void)
{
	return clock_mono().ms;
}

void judge_mention(struct scan_file *f)
{
	const char *what = S_ISDIR(f->st.st_mode)    ? "a folder"
			   : S_ISFIFO(f->st.st_mode) ? "a FIFO"
			   : S_ISSOCK(f->st.st_mode) ? "a socket"
			   : S_ISLNK(f->st.st_mode)  ? "a symbolic link"
						     : "a device";
	struct buf name;

	if (f->mentioned_ms && now_ms() - f->mentioned_ms < SCAN_MENTION_MS)
		return;
	f->mentioned_ms = now_ms();
	buf_init(&name, 512);
	text_escape(&name, slice_of(f->name), 255);
	log_warn("drop/%s is %s and no message: left alone", buf_text(&name), what);
	buf_release(&name);
}

/* As events told, whoever has it open: with a writer's close still to come, it is not complete. */
static bool is_open(const struct scan_file *f)
{
	return f->opens > 0 || (f->was_opened && !f->has_closed);
}

static bool has_been_silent(const struct scan_file *f)
{
	return writers_changed_since(&f->st) || writers_quiet_ms(&f->st) >= SCAN_SILENCE_MS ||
	       now_ms() - f->first_ms >= SCAN_SILENCE_MS;
}

/*
 * A file of one link that was written in place and has been as it is for SCAN_SETTLE_MS. A lease knows who writes;
 * where it may not be had, what was counted does (asking would be counted, too), else silence has to.
 */
static void judge_settled(struct scan *s, struct scan_file *f)
{
	bool is_counted = scan_is_tracked(s, f), is_ours = f->st.st_uid == geteuid();
	enum writers writers = WRITERS_UNKNOWN;
	char path[SCAN_PATH_BYTES];

	scan_drop_path(f->name, path);
	if (is_ours || !is_counted)
		writers = writers_probe(s->spool_fd, path);
	if (writers == WRITERS_UNKNOWN && is_counted)
		scan_set_state(s, f, is_open(f) ? SCAN_BUSY : SCAN_READY);
	else if (writers == WRITERS_NONE || (writers == WRITERS_UNKNOWN && has_been_silent(f)))
		scan_set_state(s, f, SCAN_READY);
	else
		scan_set_state(s, f, SCAN_SETTLING);
}

/* No regular file. They stay, so they must not take up the room that messages need. */
static void take_odd(struct scan *s, struct scan_file *f, const struct stat *st)
{
	if (s->odd_count > SCAN_ODD_MAX) {
		scan_remove(s, f);
		return;
	}
	f->st = *st;
	scan_set_state(s, f, SCAN_ODD);
	judge_mention(f);
}

/* fstatat() and what it tells by itself. true: one link, regular; the caller goes on. false: dealt with, maybe gone. */
static bool look(struct scan *s, struct scan_file *f, struct stat *st)
{
	char path[SCAN_PATH_BYTES];

	scan_drop_path(f->name, path);
	if (fstatat(s->spool_fd, path, st, AT_SYMLINK_NOFOLLOW) < 0) {
		scan_remove(s, f);
		return false;
	}
	if (f->state == SCAN_READY) /* its place among the ready ones depends on the uid */
		scan_set_state(s, f, SCAN_FRESH);
	s->odd_count -= f->is_odd;
	f->is_odd = !S_ISREG(st->st_mode);
	s->odd_count += f->is_odd;
	if (f->is_odd) {
		take_odd(s, f, st);
		return false;
	}
	if (st->st_nlink > 1) {
		f->st = *st;
		f->has_links = now_ms() - f->first_ms >= SCAN_LINKS_MS;
		f->is_whole |= !f->was_opened;
		scan_set_state(s, f, f->has_links ? SCAN_READY : SCAN_LINKED);
		return false;
	}
	return true;
}

void judge_again(struct scan *s, struct scan_file *f)
{
	struct stat st;
	bool is_same;

	if (!look(s, f, &st))
		return;
	is_same = writers_same_content(&f->st, &st);
	if (!is_same)
		f->first_ms = now_ms();
	f->st = st;
	if (f->is_whole)
		scan_set_state(s, f, SCAN_READY);
	else if (is_same || writers_quiet_ms(&st) >= SCAN_SETTLE_MS)
		judge_settled(s, f);
	else
		scan_set_state(s, f, SCAN_SETTLING);
}

/*
 * Renames and the rest come by two queues, that of the renames is read first. So when this file is known to be open,
 * and still is the one that was created here, then the rename was of another one, gone by now, that had its name.
 */
void judge_moved(struct scan *s, struct scan_file *f)
{
	bool is_open = scan_is_tracked(s, f) && f->opens > 0;
	ino_t created = f->st.st_ino;
	struct stat st;

	if (f->is_own_move) { /* our own scan_give_back() */
		f->is_own_move = false;
		return;
	}
	if (!is_open) {
		f->is_whole = true;
		f->first_ms = now_ms();
	}
	if (!look(s, f, &st) || (is_open && st.st_ino == created))
		return;
	f->is_whole = true;
	f->is_tracked = false;
	f->st = st;
	scan_set_state(s, f, SCAN_READY);
}

void judge_moved_without_room(struct scan *s, const char *name)
{
	char path[SCAN_PATH_BYTES];
	struct stat st;

	scan_drop_path(name, path);
	if (fstatat(s->spool_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1)
		proof_add(&s->proof, name, &st);
}

void judge_created(struct scan *s, struct scan_file *f)
{
	struct stat st;

	/* One that was renamed in, too: before this or after, the order is not known, nor is whose closes will come. */
	f->is_tracked = !f->is_whole;
	f->epoch = s->epoch;
	f->opens = 0;
	f->was_opened = f->has_closed = f->is_whole = false;
	f->first_ms = now_ms();
	if (!look(s, f, &st))
		return;
	f->st = st;
	scan_set_state(s, f, SCAN_FRESH);
}

void judge_opened(struct scan *s UNUSED, struct scan_file *f)
{
	f->opens++;
	f->was_opened = true;
}

/*
 * Events of one kind that nothing stands between are one event, so the count may be wrong: a reader's close is none of
 * the writer's, whatever it says, and when a writer has closed and some are left, those are readers, or have closed,
 * too.
 */
void judge_closed(struct scan *s, struct scan_file *f, bool is_writer)
{
	bool was_tracked = scan_is_tracked(s, f);

	f->opens -= f->opens > 0;
	f->has_closed |= is_writer;
	if (is_writer && f->opens > 0)
		f->is_tracked = false;
	if ((f->state == SCAN_BUSY || f->state == SCAN_SETTLING) && was_tracked && (is_writer || !is_open(f))) {
		f->first_ms = now_ms();
		scan_set_state(s, f, SCAN_SETTLING);
	}
}

void judge_found(struct scan *s, struct scan_file *f)
{
	struct stat st;

	if (!look(s, f, &st))
		return;
	f->st = st;
	f->is_whole = proof_take(&s->proof, f->name, &st);
	if (f->is_whole)
		scan_set_state(s, f, SCAN_READY);
	else if (writers_quiet_ms(&st) >= SCAN_SETTLE_MS)
		judge_settled(s, f);
	else
		scan_set_state(s, f, SCAN_SETTLING);
}

/* A new file that has content and was not opened came by link(2). */
void judge_fresh(struct scan *s)
{
	struct scan_file *f;

	while ((f = TAILQ_FIRST(&s->lists[SCAN_FRESH]))) {
		if (!f->was_opened && f->st.st_size > 0) {
			f->is_whole = true;
			scan_set_state(s, f, SCAN_READY);
		} else {
			scan_set_state(s, f, scan_is_tracked(s, f) && is_open(f) ? SCAN_BUSY : SCAN_SETTLING);
		}
	}
}
