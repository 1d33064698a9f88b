/* What is complete in drop/, and in whose turn: a folder of our own, the loop turned by hand. */
#include "lib/clock.h"
#include "pickup/scan.h"
#include "tests/unit/folder.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

struct world {
	char folder[32];
	int fd;
	struct loop *loop;
	struct scan *scan;
	struct loop_timer *deadline;
};

static void stop(void *arg)
{
	struct world *w = arg;

	loop_stop(w->loop);
}

static void write_file(int fd, const char *name, const char *text)
{
	int file = openat(fd, name, O_WRONLY | O_CREAT | O_APPEND, 0644);

	assert_true(file >= 0);
	assert_int_equal(write(file, text, strlen(text)), (ssize_t)strlen(text));
	close(file);
}

static void begin(struct world *w)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/drop", w->folder);
	w->scan = scan_new(path);
	assert_non_null(w->scan);
	scan_start(w->scan, w->loop, w->fd, stop, w);
}

static void end(struct world *w)
{
	scan_free(&w->scan);
}

static int set_up(void **state)
{
	static struct world w;

	(void)signal(SIGIO, SIG_IGN);
	assert_int_equal(folder_make(w.folder, sizeof(w.folder), folder_in_memory()), 0);
	w.fd = open(w.folder, O_RDONLY | O_DIRECTORY);
	assert_true(w.fd >= 0 && mkdirat(w.fd, "drop", 0700) == 0);
	assert_int_equal(fchdir(w.fd), 0);
	w.loop = loop_new();
	w.deadline = loop_timer_new(w.loop, stop, &w);
	begin(&w);
	*state = &w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	assert_int_equal(seteuid(getuid()), 0);
	end(w);
	loop_timer_free(&w->deadline);
	loop_free(&w->loop);
	close(w->fd);
	assert_int_equal(chdir("/"), 0);
	return folder_remove(w->folder);
}

/* Turns the loop until a file is handed out, at most so long; NULL: none was. */
static struct scan_file *take_within(struct world *w, uint64_t ms)
{
	scan_catch_up(w->scan);
	loop_timer_set_ms(w->deadline, ms);
	while (scan_ready_count(w->scan) == 0 && loop_timer_is_set(w->deadline))
		loop_run(w->loop); /* may end at once: what was ready for a moment while no loop ran stops this one */
	loop_timer_cancel(w->deadline);
	return scan_take(w->scan);
}

static void expect(struct world *w, const char *name, uint64_t ms)
{
	struct scan_file *f = take_within(w, ms);

	assert_non_null(f);
	assert_string_equal(scan_file_name(f), name);
	scan_forget(&f);
}

static void expect_none(struct world *w, uint64_t ms)
{
	assert_null(take_within(w, ms));
}

static void move_in(struct world *w, const char *name)
{
	char path[300];

	snprintf(path, sizeof(path), "drop/%s", name);
	write_file(w->fd, "outside", "x");
	assert_int_equal(renameat(w->fd, "outside", w->fd, path), 0);
}

static void renamed_in_at_once(void **state)
{
	struct world *w = *state;

	move_in(w, "a");
	move_in(w, "b.tmp");
	move_in(w, ".c");
	expect(w, "a", 1000);
	expect_none(w, 50);
}

static void linked_in_at_once_when_the_other_name_is_gone(void **state)
{
	struct world *w = *state;

	write_file(w->fd, "outside", "x");
	assert_int_equal(linkat(w->fd, "outside", w->fd, "drop/a", 0), 0);
	expect_none(w, 200);
	assert_int_equal(unlinkat(w->fd, "outside", 0), 0);
	expect(w, "a", 1000);
}

static void written_in_place_after_silence(void **state)
{
	struct world *w = *state;
	int file = openat(w->fd, "drop/a", O_WRONLY | O_CREAT, 0644);

	assert_int_equal(write(file, "x", 1), 1);
	expect_none(w, 2500); /* still open */
	close(file);
	expect_none(w, 1800);
	expect(w, "a", 1000);
}

/* The rename's event is read first and stands for a file that is gone. */
static void a_stale_rename_does_not_complete_a_new_file(void **state)
{
	struct world *w = *state;
	int file;

	move_in(w, "a");
	assert_int_equal(unlinkat(w->fd, "drop/a", 0), 0);
	file = openat(w->fd, "drop/a", O_WRONLY | O_CREAT, 0644);
	assert_int_equal(write(file, "half", 4), 4);
	expect_none(w, 2300);
	close(file);
	expect(w, "a", 3000);
}

/* The creation's event is read second and stands for a file that is gone, and so will be no close. */
static void a_file_renamed_over_an_open_one_is_not_forgotten(void **state)
{
	struct world *w = *state;
	int file = openat(w->fd, "drop/a", O_WRONLY | O_CREAT, 0644);

	move_in(w, "a");
	expect(w, "a", 4000);
	close(file);
}

static void found_at_start_and_still_open(void **state)
{
	struct world *w = *state;
	int file;

	end(w);
	file = openat(w->fd, "drop/open", O_WRONLY | O_CREAT, 0644);
	assert_int_equal(write(file, "half", 4), 4);
	write_file(w->fd, "drop/closed", "x");
	begin(w);
	expect(w, "closed", 3000);
	expect_none(w, 1500);
	close(file);
	expect(w, "open", 5000);
}

static void opened_again_after_the_start(void **state)
{
	struct world *w = *state;
	int file;

	end(w);
	write_file(w->fd, "drop/a", "first");
	begin(w);
	file = openat(w->fd, "drop/a", O_WRONLY | O_APPEND);
	expect_none(w, 2500);
	close(file);
	expect(w, "a", 3000);
}

/* From here on as if the files were other people's, which no lease tells of. */
static void be_a_stranger(struct world *w)
{
	enum { NOBODY = 65534 };

	if (geteuid() != 0)
		skip();
	assert_int_equal(fchmod(w->fd, 0755), 0);
	assert_int_equal(fchmodat(w->fd, "drop", 0777, 0), 0);
	assert_int_equal(seteuid(NOBODY), 0);
}

/* Two closes that follow one another are one event. */
static void closed_twice_at_once(void **state)
{
	struct world *w = *state;
	int first = openat(w->fd, "drop/a", O_WRONLY | O_CREAT, 0644), second;

	scan_catch_up(w->scan); /* else the opens were one event, too */
	second = openat(w->fd, "drop/a", O_WRONLY | O_APPEND);
	assert_int_equal(write(second, "whole", 5), 5);
	scan_catch_up(w->scan);
	close(first);
	close(second);
	expect(w, "a", 4000);
}

/* Only who writes keeps a message back. */
static void somebody_reads_it_for_long(void **state)
{
	struct world *w = *state;
	int reader;

	write_file(w->fd, "drop/a", "whole");
	scan_catch_up(w->scan);
	reader = openat(w->fd, "drop/a", O_RDONLY);
	expect(w, "a", 4000);
	close(reader);
}

static void a_strangers_file_that_somebody_reads_for_long(void **state)
{
	struct world *w = *state;
	int writer = openat(w->fd, "drop/a", O_WRONLY | O_CREAT, 0644), reader;

	scan_catch_up(w->scan);
	reader = openat(w->fd, "drop/a", O_RDONLY);
	assert_int_equal(write(writer, "whole", 5), 5);
	assert_int_equal(futimens(writer, (const struct timespec[2]){ { 1, 0 }, { 1, 0 } }), 0); /* saves the silence */
	close(writer);
	be_a_stranger(w);
	expect(w, "a", 4000);
	close(reader);
}

/* Its open was one event with the writer's, and its close is none of the writer's. */
static void a_reader_came_and_went_while_it_was_written(void **state)
{
	struct world *w = *state;
	int writer = openat(w->fd, "drop/a", O_WRONLY | O_CREAT, 0644), reader = openat(w->fd, "drop/a", O_RDONLY);

	assert_int_equal(write(writer, "half", 4), 4);
	close(reader);
	be_a_stranger(w);
	expect_none(w, 2500);
	close(writer);
	expect(w, "a", 3000);
}

/* Those of one user that do not fit are found again, and are complete as before. */
static void a_flood_is_handed_out_without_silence(void **state)
{
	enum { COUNT = SCAN_UID_MAX + 3000 };
	struct world *w = *state;
	unsigned taken = 0;
	char name[32];

	for (unsigned i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "m%u", i);
		move_in(w, name);
		if (i % 1000 == 0)
			scan_catch_up(w->scan);
	}
	scan_catch_up(w->scan);
	assert_int_equal(scan_ready_count(w->scan), SCAN_UID_MAX);
	for (; taken < COUNT; taken++) {
		struct scan_file *f = take_within(w, 1500);
		char path[300];

		if (!f)
			break;
		snprintf(path, sizeof(path), "drop/%s", scan_file_name(f));
		assert_int_equal(unlinkat(w->fd, path, 0), 0);
		scan_forget(&f);
	}
	assert_int_equal(taken, COUNT);
}

/* DR02: they are left alone, and leave room for what is a message. */
static void odd_ones_fill_nothing(void **state)
{
	struct world *w = *state;
	char path[300];

	end(w);
	for (unsigned i = 0; i <= SCAN_FILES_MAX; i++) {
		snprintf(path, sizeof(path), "drop/odd%u", i);
		assert_int_equal(symlinkat("nowhere", w->fd, path), 0);
	}
	begin(w);
	expect_none(w, 2000); /* the first walk is over, or nearly */
	move_in(w, "a");
	expect(w, "a", 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		TEST(renamed_in_at_once),
		TEST(linked_in_at_once_when_the_other_name_is_gone),
		TEST(written_in_place_after_silence),
		TEST(a_stale_rename_does_not_complete_a_new_file),
		TEST(a_file_renamed_over_an_open_one_is_not_forgotten),
		TEST(found_at_start_and_still_open),
		TEST(opened_again_after_the_start),
		TEST(closed_twice_at_once),
		TEST(somebody_reads_it_for_long),
		TEST(a_strangers_file_that_somebody_reads_for_long),
		TEST(a_reader_came_and_went_while_it_was_written),
		TEST(odd_ones_fill_nothing),
		TEST(a_flood_is_handed_out_without_silence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
