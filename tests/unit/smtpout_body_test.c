/* HS39: whatever the message, the wire has one end of data, and undoing the dots gives the message back. */
#include "smtpout/body.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
/* cmocka last: it needs setjmp.h and others above */
#include <cmocka.h>

static const struct row {
	const char *body, *wire;
} ROWS[] = {
	{ "", ".\r\n" },
	{ "a\r\n", "a\r\n.\r\n" },
	{ "a", "a\r\n.\r\n" },
	{ ".\r\n", "..\r\n.\r\n" },
	{ ".", "..\r\n.\r\n" },
	{ "..\r\n", "...\r\n.\r\n" },
	{ "a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n.\r\n" },
	{ "a\r\n.b\r\n..c\r\n", "a\r\n..b\r\n...c\r\n.\r\n" },
	{ "a.b\r\n", "a.b\r\n.\r\n" },
	{ "\r\n", "\r\n.\r\n" },
	{ "\r\n\r\n", "\r\n\r\n.\r\n" },
	{ "a\n.\nb", "a\n..\nb\r\n.\r\n" }, /* no spool holds this; never let it end the data early */
	{ "a\r\n.\rb\r\n", "a\r\n..\rb\r\n.\r\n" },
	{ "a\r.\r\n", "a\r.\r\n.\r\n" },
	{ "a\r", "a\r\r\n.\r\n" },
	{ "\n", "\n\r\n.\r\n" },
};

static int file_of(const void *bytes, size_t len)
{
	int fd = memfd_create("body", MFD_CLOEXEC);

	assert_int_equal(write(fd, bytes, len), (ssize_t)len);
	return fd;
}

static void test_stuffing_in_pieces(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct slice body = slice_of(ROWS[i].body);

		for (size_t step = 1; step <= body.len + 1; step++) {
			struct body b;
			struct buf out;

			buf_init(&out, 1000);
			body_init(&b, -1, 0, body.len, true);
			for (size_t at = 0; at < body.len; at += step)
				body_stuff(&b,
					   (struct slice){ body.ptr + at, body.len - at < step ? body.len - at : step },
					   &out);
			body_end(&b, &out);
			assert_string_equal(buf_text(&out), ROWS[i].wire);
			buf_release(&out);
		}
	}
}

/* A body of several chunks with dots at the edges comes through whole, from an offset. */
static void test_chunks(void **state)
{
	static char body[3 * BODY_CHUNK];
	size_t skip = 100, want = 0;
	struct body b;
	struct buf out;
	enum body_result result;
	int fd;

	for (size_t i = 0; i + 2 < sizeof(body); i += 3)
		memcpy(body + i, ".\r\n", 3);
	fd = file_of(body, sizeof(body));
	body_init(&b, fd, skip + 2, sizeof(body) - skip - 2, true);
	assert_false(body_can_sendfile(&b));
	buf_init(&out, 8 * BODY_CHUNK);
	do
		result = body_fill(&b, &out);
	while (result == BODY_MORE);
	assert_int_equal(result, BODY_LAST);
	for (size_t i = skip + 2; i < sizeof(body); i++)
		want += 1 + (body[i] == '.');
	assert_int_equal(out.len, want + 3);
	assert_memory_equal(out.ptr + out.len - 5, "\r\n.\r\n", 5);
	buf_release(&out);
	close(fd);
}

static void test_short_file_has_no_end(void **state)
{
	int fd = file_of("abc\r\n", 5);
	struct body b;
	struct buf out;

	buf_init(&out, 1000);
	body_init(&b, fd, 0, 6, false);
	assert_int_equal(body_fill(&b, &out), BODY_MORE);
	assert_int_equal(body_fill(&b, &out), BODY_BROKEN);
	assert_string_equal(buf_text(&out), "abc\r\n");
	buf_release(&out);
	close(fd);
}

/* sendfile leaves a last piece, so that the dot never travels alone. */
static void test_sendfile_leaves_a_tail(void **state)
{
	static char body[5 * BODY_CHUNK];
	int pair[2], fd, big = 2 * 1024 * 1024;
	struct body b;
	struct buf out;

	memset(body, 'x', sizeof(body));
	memcpy(body + sizeof(body) - 2, "\r\n", 2);
	fd = file_of(body, sizeof(body));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
	body_init(&b, fd, 0, sizeof(body), false);
	while (body_can_sendfile(&b)) {
		static char sink[BODY_CHUNK];

		assert_true(body_sendfile(&b, pair[0]) > 0);
		while (recv(pair[1], sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
	}
	assert_true(b.left > 2 && b.left <= BODY_CHUNK);
	buf_init(&out, BODY_OUT_MAX);
	assert_int_equal(body_fill(&b, &out), BODY_LAST);
	assert_memory_equal(out.ptr + out.len - 6, "x\r\n.\r\n", 6);
	buf_release(&out);
	close(fd);
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stuffing_in_pieces),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_short_file_has_no_end),
		cmocka_unit_test(test_sendfile_leaves_a_tail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
