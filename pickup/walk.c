/* walk.c - looks into drop/ itself: at start, after events were lost, and every SCAN_WALK_MS. */
#include "lib/log.h"
#include "pickup/scan_parts.h"
#include "pickup/writers.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { WALK_STEP = 512 };

void walk_want(struct scan *s)
{
	s->is_walk_wanted = true;
	if (s->walk_timer)
		loop_timer_set_ms(s->walk_timer, 0);
}

/* What waits for an event that will not come: its file is gone. */
static void sweep_file(void *arg, struct table_node *node)
{
	struct scan *s = arg;
	struct scan_file *f = TABLE_OBJECT(node, struct scan_file, node);

	if ((f->state == SCAN_ODD || f->state == SCAN_BUSY) && f->walk != s->walk_number)
		scan_remove(s, f);
}

static void end_walk(struct scan *s)
{
	(void)closedir(s->walk);
	s->walk = NULL;
	if (!s->is_partial) {
		table_each(&s->files, sweep_file, s);
		proof_clear(&s->proof);
	}
	loop_timer_set_ms(s->walk_timer, s->is_walk_wanted ? 0 : SCAN_WALK_MS);
}

static DIR *open_folder(int at_fd, const char *folder)
{
	int fd = openat(at_fd, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

	if (!dir && fd >= 0)
		close(fd);
	return dir;
}

static bool begin_walk(struct scan *s)
{
	s->walk = open_folder(s->spool_fd, "drop");
	if (!s->walk) {
		log_warn("cannot look into drop/: %s", strerror(errno));
		loop_timer_set_ms(s->walk_timer, SCAN_WALK_MS);
		return false;
	}
	s->is_walk_wanted = s->is_partial = false;
	s->walk_number++;
	if (!notice_is_watching(s))
		notice_watch(s, "drop");
	return true;
}

static void walk_entry(struct scan *s, const char *name)
{
	struct scan_file *f;
	bool is_known;

	if (!scan_name_is_message(name))
		return;
	is_known = scan_find(s, name) != NULL;
	f = scan_get(s, name);
	if (!f)
		return;
	f->walk = s->walk_number;
	if (!is_known)
		judge_found(s, f);
	else if (f->state == SCAN_ODD)
		judge_mention(f);
	else if (f->state == SCAN_BUSY && !scan_is_tracked(s, f))
		scan_set_state(s, f, SCAN_SETTLING);
}

void walk_on_timer(void *arg)
{
	struct scan *s = arg;

	scan_catch_up(s); /* what a rename tells is better than what we see */
	if (!s->walk && !begin_walk(s))
		return;
	for (unsigned i = 0; i < WALK_STEP; i++) {
		const struct dirent *e = readdir(s->walk);

		if (!e || s->files.count >= SCAN_FILES_MAX) {
			s->is_partial |= e != NULL;
			end_walk(s);
			scan_set_wake(s);
			return;
		}
		walk_entry(s, e->d_name);
	}
	scan_set_wake(s);
	loop_timer_set_ms(s->walk_timer, 0);
}

/*
 * The watch is on already: nobody has it open now, and of everybody who opens it from now on events tell. Older files
 * need no such proof: see judge.c.
 */
static void look_early(struct scan *s, int folder_fd, const char *name)
{
	struct scan_file *f;
	struct stat st;

	if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1 ||
	    writers_quiet_ms(&st) >= SCAN_SILENCE_MS || !writers_is_unopened(folder_fd, name))
		return;
	f = scan_get(s, name);
	if (!f)
		return;
	f->st = st;
	f->is_tracked = f->has_closed = true;
	f->epoch = s->epoch;
	scan_set_state(s, f, SCAN_SETTLING);
}

void walk_early(struct scan *s, const char *folder)
{
	DIR *dir = open_folder(AT_FDCWD, folder);
	const struct dirent *e;

	if (!dir)
		return; /* the first walk will say so */
	while ((e = readdir(dir)) && s->files.count < SCAN_FILES_MAX / 2) {
		if (scan_name_is_message(e->d_name))
			look_early(s, dirfd(dir), e->d_name);
	}
	(void)closedir(dir);
}
