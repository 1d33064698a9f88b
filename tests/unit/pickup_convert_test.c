/* Whole files, small and large, into queue files that can be read; names, rejecting, time stamps. */
#include "pickup/convert.h"
#include "pickup/reject.h"
#include "pickup/scan.h"
#include "pickup/writers.h"
#include "tests/unit/folder.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static const struct conf CONF = { .hostname = (char *)"mail.test",
				  .postmaster = (char *)"postmaster@mail.test",
				  .recipient_limit = 10000,
				  .message_size_limit_bytes = 40u << 20 };

struct folder {
	char path[64];
	int fd;
	struct converter converter;
};

static int make_folder(void **state)
{
	struct folder *f = xcalloc(1, sizeof(*f));

	assert_int_equal(folder_make(f->path, sizeof(f->path), "/tmp"), 0);
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY);
	assert_int_equal(mkdirat(f->fd, "rejected", 0700), 0);
	converter_init(&f->converter, &CONF);
	*state = f;
	return 0;
}

static int remove_folder(void **state)
{
	struct folder *f = *state;
	int rc;

	converter_release(&f->converter);
	close(f->fd);
	rc = folder_remove(f->path);
	free(f);
	return rc;
}

static void put_file(struct folder *f, const char *name, const void *bytes, size_t len)
{
	int fd = openat(f->fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(write(fd, bytes, len), len);
	close(fd);
}

/* Converts `name` into "new"; the queue file is read back when that worked. */
static enum convert_result convert(struct folder *f, const char *name, struct queuefile *qf)
{
	struct convert_source source = { .id = 1795307043448000ull << 12, .uid = 7 };
	enum convert_result result;
	int fd = -1;

	*qf = (struct queuefile){ 0 };
	(void)unlinkat(f->fd, "new", 0);
	source.fd = openat(f->fd, name, O_RDONLY);
	assert_int_equal(fstat(source.fd, &source.st), 0);
	result = convert_file(&f->converter, &source, f->fd, "new", &fd);
	close(source.fd);
	if (result == CONVERT_DONE) {
		close(fd);
		fd = openat(f->fd, "new", O_RDONLY);
		assert_int_equal(queuefile_read(fd, qf), QUEUEFILE_OK);
		close(fd);
	} else {
		assert_int_equal(faccessat(f->fd, "new", F_OK, 0), -1);
	}
	return result;
}

static void sizes_around_the_chunk(void **state)
{
	static const size_t SIZES[] = { 0,
					1,
					CONVERT_CHUNK_BYTES - 40,
					CONVERT_CHUNK_BYTES,
					CONVERT_CHUNK_BYTES + 1,
					3 * CONVERT_CHUNK_BYTES,
					30u << 20 };
	struct folder *f = *state;
	struct buf message;

	buf_init(&message, 64u << 20);
	for (size_t i = 0; i < ARRAY_LEN(SIZES); i++) {
		struct queuefile qf;
		size_t lines = 0;

		buf_clear(&message);
		buf_put_str(&message, "From: a@b\nTo: c@d\n\n");
		for (size_t k = 0; k + 64 <= SIZES[i]; k += 64, lines++)
			buf_put_str(&message, ".23456789012345678901234567890123456789012345678901234567890123\n");
		put_file(f, "in", message.ptr, message.len);
		assert_int_equal(convert(f, "in", &qf), CONVERT_DONE);
		assert_int_equal(qf.flags, lines ? QUEUEFILE_DOTS : 0);
		assert_int_equal(qf.uid, 7);
		assert_int_equal(qf.size_bytes, f->converter.header.text.len + 2 + lines * 65);
		queuefile_release(&qf);
	}
	buf_release(&message);
}

static void a_header_larger_than_a_chunk(void **state)
{
	struct folder *f = *state;
	struct queuefile qf;
	struct buf message;

	buf_init(&message, 64u << 20);
	buf_put_str(&message, "From: a@b\nTo: r0@d");
	for (int i = 1; i < 10000; i++)
		buf_printf(&message, ",\n someone.with.a.long.name.%d@department.example.com", i);
	for (int i = 0; i < 100000; i++)
		buf_printf(&message, "\nX-%d: x", i);
	buf_put_str(&message, "\n\nbody\n");
	put_file(f, "in", message.ptr, message.len);
	assert_int_equal(convert(f, "in", &qf), CONVERT_DONE);
	assert_int_equal(qf.rcpt_count, 10000);
	queuefile_release(&qf);
	buf_release(&message);
}

static void what_is_rejected(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		const char *reason;
	} ROWS[] = {
		{ "", 0, "it is empty" },
		{ "To: a@b\n\n\0", 10, "there is a NUL byte in its body" },
		{ "To: a@b\nX: \0\n\n", 14, "there is a NUL byte in its header" },
		{ "Subject: x\n", 11, "it has no recipients: To, Cc, Bcc and X-Receiver name nobody" },
	};
	struct folder *f = *state;
	struct queuefile qf;
	int fd;

	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		put_file(f, "in", ROWS[i].bytes, ROWS[i].len);
		assert_int_equal(convert(f, "in", &qf), CONVERT_REJECTED);
		assert_string_equal(buf_text(&f->converter.header.reason), ROWS[i].reason);
	}
	/* DR07: judged by its size before a byte is read */
	fd = openat(f->fd, "sparse", O_WRONLY | O_CREAT, 0600);
	assert_int_equal(ftruncate(fd, 1ll << 40), 0);
	close(fd);
	assert_int_equal(convert(f, "sparse", &qf), CONVERT_REJECTED);
	assert_non_null(strstr(buf_text(&f->converter.header.reason), "message-size-limit"));
}

/* A message that somebody has just looked at; .fd is the caller's. */
static struct convert_source looked_at(struct folder *f)
{
	struct convert_source source = { .id = 1ull << 60 };

	put_file(f, "in", "To: a@b\n\nx\n", 11);
	source.fd = openat(f->fd, "in", O_RDONLY);
	assert_int_equal(fstat(source.fd, &source.st), 0);
	return source;
}

static void a_file_that_shrinks_is_taken_later(void **state)
{
	struct folder *f = *state;
	struct convert_source source = looked_at(f);
	int fd = -1;

	source.st.st_size += 100; /* as it was when somebody looked */
	assert_int_equal(convert_file(&f->converter, &source, f->fd, "new", &fd), CONVERT_CHANGED);
	source.st.st_size -= 101;
	assert_int_equal(convert_file(&f->converter, &source, f->fd, "new", &fd), CONVERT_CHANGED);
	assert_int_equal(faccessat(f->fd, "new", F_OK, 0), -1);
	close(source.fd);
}

/* DR04: it was touched between the look and the last byte, and its time of modification set back. */
static void a_file_whose_inode_changed_is_taken_later(void **state)
{
	struct folder *f = *state;
	struct convert_source source = looked_at(f);
	int fd = -1;

	source.st.st_ctim.tv_nsec ^= 1;
	assert_int_equal(convert_file(&f->converter, &source, f->fd, "new", &fd), CONVERT_CHANGED);
	assert_int_equal(faccessat(f->fd, "new", F_OK, 0), -1);
	close(source.fd);
}

static void rejecting_overwrites_nothing(void **state)
{
	static const char *const EXPECTED[] = { "rejected/x", "rejected/x.1", "rejected/x.3" };
	struct folder *f = *state;
	char path[300], name[256];

	put_file(f, "rejected/x.2.reason", "", 0);
	for (size_t i = 0; i < ARRAY_LEN(EXPECTED); i++) {
		put_file(f, "in", "x", 1);
		assert_int_equal(reject_file(f->fd, "in", "x", 7, "because"), 0);
		assert_int_equal(faccessat(f->fd, "in", F_OK, 0), -1);
		assert_int_equal(faccessat(f->fd, EXPECTED[i], F_OK, 0), 0);
		snprintf(path, sizeof(path), "%s.reason", EXPECTED[i]);
		assert_int_equal(faccessat(f->fd, path, F_OK, 0), 0);
	}
	memset(name, 'n', 255); /* as long as a name can be: no room for ".reason" */
	name[255] = '\0';
	for (int i = 0; i < 2; i++) {
		put_file(f, "in", "x", 1);
		assert_int_equal(reject_file(f->fd, "in", name, 7, "because"), 0);
	}
	assert_int_equal(reject_file(f->fd, "missing", "y", 7, "because"), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(faccessat(f->fd, "rejected/y.reason", F_OK, 0), -1);
}

static void names(void **state UNUSED)
{
	static const char *const MESSAGES[] = { "a", "a.tmp.x", "tmp", "-rf", "a b\n", "\xff", "part", "a.TMP" },
				 *const OTHERS[] = { "", ".", "..", ".a", "a.tmp", "a.part", ".tmp" };

	for (size_t i = 0; i < ARRAY_LEN(MESSAGES); i++)
		assert_true(scan_name_is_message(MESSAGES[i]));
	for (size_t i = 0; i < ARRAY_LEN(OTHERS); i++)
		assert_false(scan_name_is_message(OTHERS[i]));
}

static void writers_are_seen(void **state)
{
	struct folder *f = *state;
	struct stat st;
	int fd;

	put_file(f, "in", "x", 1);
	assert_int_equal(writers_probe(f->fd, "in"), WRITERS_NONE);
	fd = openat(f->fd, "in", O_WRONLY);
	assert_int_equal(writers_probe(f->fd, "in"), WRITERS_SOME);
	close(fd);
	fd = openat(f->fd, "in", O_RDONLY);
	assert_int_equal(writers_probe(f->fd, "in"), WRITERS_NONE);
	close(fd);
	assert_int_equal(fstatat(f->fd, "in", &st, 0), 0);
	assert_false(writers_changed_since(&st));
	st.st_ctim.tv_nsec++;
	assert_true(writers_changed_since(&st));
	st.st_ctim.tv_sec += 1000; /* the clock was set back since */
	assert_int_equal(writers_quiet_ms(&st), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sizes_around_the_chunk, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(a_header_larger_than_a_chunk, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(what_is_rejected, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(a_file_that_shrinks_is_taken_later, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(a_file_whose_inode_changed_is_taken_later, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(rejecting_overwrites_nothing, make_folder, remove_folder),
		cmocka_unit_test(names),
		cmocka_unit_test_setup_teardown(writers_are_seen, make_folder, remove_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
