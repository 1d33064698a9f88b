/* scheduler_bounce_test.c - reports: who gets one, what stands in it, and that they are whole on the disk. */
#include "lib/spool.h"
#include "lib/text.h"
#include "scheduler/bounce.h"
#include "scheduler/bounce_mime.h"
#include "tests/unit/folder.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

/* 2026-11-21T15:04:05Z and some random bits, as spool_id_next() makes them */
static const uint64_t REPORT_ID = 1795273445000000ull << 12 | 77;
static const uint64_t ORIGINAL_ID = 1795260000000000ull << 12 | 5;
static const char MESSAGE[] = "Received: by here\r\nmessage-id: <one@example.com>\r\nSubject: a\r\n\tb\r\n\r\n"
			      "body\r\n.dot\r\n";

struct fixture {
	char dir[40];
	int spool_fd, fd;
	struct conf conf;
	struct queuefile original; /* slices point to static text */
	struct queuefile_rcpt rcpt[3];
	struct bounce_rcpt failed[3];
	struct bounce bounce;
	struct queuefile report; /* as read back */
	char *text;              /* its message */
};

static int setup(void **state)
{
	static const char *const DIRS[] = { "incoming", "queue", "dead" };
	struct fixture *f = xcalloc(1, sizeof(*f));

	assert_int_equal(setenv("TZ", "UTC", 1), 0);
	assert_int_equal(folder_make(f->dir, sizeof(f->dir), "/tmp"), 0);
	f->spool_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; i < ARRAY_LEN(DIRS); i++)
		assert_int_equal(mkdirat(f->spool_fd, DIRS[i], 0700), 0);
	f->fd = -1;
	f->conf.hostname = (char *)"mail.example.com";
	f->conf.postmaster = (char *)"postmaster@example.com";
	f->rcpt[0].address = slice_of("nobody@example.net");
	f->rcpt[1].address = slice_of("full@example.org");
	f->rcpt[2].address = slice_of("late@example.org");
	f->original = (struct queuefile){ .id = ORIGINAL_ID,
					  .arrival = { 1795260000000 },
					  .sender = slice_of("me@example.com"),
					  .rcpt_count = 3,
					  .rcpt = f->rcpt };
	f->failed[0] = (struct bounce_rcpt){
		.index = 0,
		.code = 550,
		.dsn = slice_of("5.1.1"),
		.server = slice_of("My ISP"),
		.relay = slice_of("mx.example.net[192.0.2.1]:25"),
		.text = slice_of("host mx.example.net[192.0.2.1] said: 550 5.1.1 no such user (here) (in reply to RCPT "
				 "TO command)"),
		.when = { 1795273440000 },
	};
	f->bounce = (struct bounce){ BOUNCE_FAILED, &f->original, -1, { 0 }, 1, f->failed };
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	queuefile_release(&f->report);
	free(f->text);
	(void)close(f->spool_fd);
	if (f->fd >= 0)
		(void)close(f->fd);
	assert_int_equal(folder_remove(f->dir), 0);
	free(f);
	return 0;
}

/* The original as pickup leaves it. */
static void put_original(struct fixture *f, const char *message)
{
	char path[SPOOL_PATH_MAX];
	struct buf b;

	f->original.size_bytes = strlen(message);
	buf_init(&b, QUEUEFILE_HEAD_MAX);
	queuefile_format_head(&b, &f->original);
	f->original.body_offset_bytes = b.len;
	buf_put_str(&b, message);
	buf_put_str(&b, QUEUEFILE_END);
	spool_queue_path(ORIGINAL_ID, path);
	*strrchr(path, '/') = '\0';
	(void)mkdirat(f->spool_fd, path, 0700);
	spool_queue_path(ORIGINAL_ID, path);
	f->fd = openat(f->spool_fd, path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(f->fd >= 0);
	assert_int_equal(write(f->fd, b.ptr, b.len), b.len);
	buf_release(&b);
	f->bounce.fd = f->fd;
}

/* Writes the report and reads it as the scheduler would. */
static const char *write_report(struct fixture *f)
{
	char path[SPOOL_PATH_MAX];
	struct stat st;
	int fd;

	assert_int_equal(bounce_write(f->spool_fd, &f->conf, &f->bounce, REPORT_ID), 0);
	spool_incoming_path(REPORT_ID, path);
	fd = openat(f->spool_fd, path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(spool_is_complete(&st));
	queuefile_release(&f->report);
	assert_int_equal(queuefile_read(fd, &f->report), QUEUEFILE_OK);
	free(f->text);
	f->text = xcalloc(1, f->report.size_bytes + 1);
	assert_int_equal(pread(fd, f->text, f->report.size_bytes, (off_t)f->report.body_offset_bytes),
			 f->report.size_bytes);
	(void)close(fd);
	return f->text;
}

static void assert_has(const char *text, const char *what)
{
	if (!strstr(text, what))
		fail_msg("not there: %s\nin: %s", what, text);
}

static void assert_lacks(const char *text, const char *what)
{
	if (strstr(text, what))
		fail_msg("is there: %s\nin: %s", what, text);
}

/* RFC 5322 2.1.1: no line over 998 bytes, all end in CRLF, no bare CR or LF. */
static void assert_well_formed(const struct fixture *f)
{
	const char *line = f->text, *end;

	for (; *line; line = end + 2) {
		end = strstr(line, "\r\n");
		assert_non_null(end);
		assert_true(end - line <= 998);
		for (const char *p = line; p < end; p++)
			assert_true(*p != '\n' && *p != '\r');
	}
	assert_int_equal(!!(f->report.flags & QUEUEFILE_DOTS), !!strstr(f->text, "\n."));
	if (!(f->report.flags & (QUEUEFILE_8BIT | QUEUEFILE_UTF8)))
		assert_true(text_is_ascii(slice_of(f->text)));
}

/* --- who is told --- */

static void test_who_is_told(void **state)
{
	static const struct {
		const char *sender, *rcpt;
		unsigned notify;
		enum bounce_kind on_failure, on_delay;
	} ROWS[] = {
		{ "a@b.c", "x@y.z", NOTIFY_UNSET, BOUNCE_FAILED, BOUNCE_DELAYED },
		{ "a@b.c", "x@y.z", NOTIFY_NEVER, BOUNCE_NONE, BOUNCE_NONE },
		{ "a@b.c", "x@y.z", NOTIFY_SUCCESS, BOUNCE_NONE, BOUNCE_NONE },
		{ "a@b.c", "x@y.z", NOTIFY_FAILURE, BOUNCE_FAILED, BOUNCE_NONE },
		{ "a@b.c", "x@y.z", NOTIFY_DELAY | NOTIFY_SUCCESS, BOUNCE_NONE, BOUNCE_DELAYED },
		{ "a@b.c", "postmaster@example.com", NOTIFY_UNSET, BOUNCE_FAILED, BOUNCE_DELAYED },
		{ "", "x@y.z", NOTIFY_UNSET, BOUNCE_DOUBLE, BOUNCE_NONE },
		{ "", "x@y.z", NOTIFY_NEVER, BOUNCE_DOUBLE, BOUNCE_NONE },
		{ "", "Postmaster@Example.COM", NOTIFY_UNSET, BOUNCE_DEAD, BOUNCE_NONE },
	};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		f->original.sender = slice_of(ROWS[i].sender);
		f->rcpt[0] = (struct queuefile_rcpt){ .address = slice_of(ROWS[i].rcpt), .notify = ROWS[i].notify };
		assert_int_equal(bounce_kind_of(&f->conf, &f->original, 0, false), ROWS[i].on_failure);
		assert_int_equal(bounce_kind_of(&f->conf, &f->original, 0, true), ROWS[i].on_delay);
	}
}

/* --- what stands in it --- */

static void test_failure(void **state)
{
	static const char *const PARTS[] = {
		"Received: by mail.example.com (Postern)\r\n",
		"\r\nDate: Sat, 21 Nov 2026 15:04:05 +0000\r\n",
		"\r\nFrom: Mail Delivery System <MAILER-DAEMON@mail.example.com>\r\n",
		"\r\nTo: <me@example.com>\r\n",
		"\r\nAuto-Submitted: auto-replied\r\n",
		"\r\nIn-Reply-To: <one@example.com>\r\n",
		"\r\nReferences: <one@example.com>\r\n",
		"\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n",
		"Content-Type: text/plain; charset=utf-8\r\n",
		"<nobody@example.net>\r\n",
		"mx.example.net[192.0.2.1]:25 (server \"My ISP\"):\r\n",
		"    What to do: Check the address for typing mistakes, or ask the\r\n    recipient",
		"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mail.example.com\r\n",
		"\r\nArrival-Date: Sat, 21 Nov 2026 11:20:00 +0000\r\n\r\n",
		"\r\n\r\nFinal-Recipient: rfc822; nobody@example.net\r\n",
		"\r\nAction: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.example.net\r\n",
		"\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user (here)\r\n",
		"\r\nLast-Attempt-Date: Sat, 21 Nov 2026 15:04:00 +0000\r\n",
		"Content-Type: text/rfc822-headers\r\n\r\nReceived: by here\r\n",
		"\r\nSubject: a\r\n\tb\r\n\r\n--=_report_",
	};
	struct fixture *f = *state;
	const char *text;

	put_original(f, MESSAGE);
	text = write_report(f);
	for (unsigned i = 0; i < ARRAY_LEN(PARTS); i++)
		assert_has(text, PARTS[i]);
	assert_lacks(text, "\nbody");
	assert_lacks(text, "Will-Retry-Until");
	assert_lacks(text, "Original-");
	assert_well_formed(f);
	assert_int_equal(f->report.id, REPORT_ID);
	assert_int_equal(f->report.sender.len, 0);
	assert_int_equal(f->report.rcpt_count, 1);
	assert_true(slice_is(f->report.rcpt[0].address, "me@example.com"));
	assert_int_equal(f->report.flags, 0);
	assert_int_equal(f->report.arrival.ms, 1795273445000);
}

static void test_written_twice_it_is_the_same(void **state)
{
	struct fixture *f = *state;
	char *first;

	put_original(f, MESSAGE);
	first = xstrdup(write_report(f));
	assert_string_equal(first, write_report(f));
	free(first);
}

static void test_several_recipients_and_reasons(void **state)
{
	struct fixture *f = *state;
	const char *text;

	put_original(f, MESSAGE);
	f->failed[1] = (struct bounce_rcpt){ .index = 1,
					     .dsn = slice_of("5.4.4"),
					     .relay = slice_of("none"),
					     .text = slice_of("example.org takes no mail") };
	f->failed[2] = (struct bounce_rcpt){ .index = 2,
					     .is_expired = true,
					     .code = 451,
					     .dsn = slice_of("4.4.7"),
					     .relay = slice_of("mx[192.0.2.1]:25"),
					     .text = slice_of("try later") };
	f->bounce.rcpt_count = 3;
	text = write_report(f);
	assert_has(text, "\r\n\r\nFinal-Recipient: rfc822; full@example.org\r\nAction: failed\r\nStatus: 5.4.4\r\n"
			 "Diagnostic-Code: X-Postern; example.org takes no mail\r\n\r\n");
	assert_has(text, "Final-Recipient: rfc822; late@example.org\r\nAction: failed\r\nStatus: 4.4.7\r\n");
	assert_has(text, "Diagnostic-Code: smtp; 451 try later\r\n");
	assert_has(text, "was given up: the time for delivery is over.");
	assert_has(text, "Nobody took it in all that time.");
	assert_well_formed(f);
}

static void test_delay(void **state)
{
	struct fixture *f = *state;
	const char *text;

	f->original.is_ret_full = true; /* RFC 3461 4.3: only for failures */
	put_original(f, MESSAGE);
	f->bounce.kind = BOUNCE_DELAYED;
	f->bounce.retry_until.ms = 1795692000000;
	text = write_report(f);
	assert_has(text, "Subject: Delayed mail");
	assert_has(text, "Action: delayed\r\nStatus: 4.1.1\r\n");
	assert_has(text, "Will-Retry-Until: Thu, 26 Nov 2026 11:20:00 +0000\r\n");
	assert_has(text, "You need not\r\nsend it again: delivery is tried until Thu, 26 Nov 2026");
	assert_lacks(text, "What to do");
	assert_lacks(text, "\nbody");
	assert_well_formed(f);
}

static void test_whole_message_comes_back(void **state)
{
	struct fixture *f = *state;
	const char *text;

	f->original.is_ret_full = true;
	f->original.flags = QUEUEFILE_DOTS;
	put_original(f, MESSAGE);
	text = write_report(f);
	assert_has(text, "Content-Type: message/rfc822\r\n\r\nReceived: by here\r\n");
	assert_has(text, "\r\n\r\nbody\r\n.dot\r\n\r\n--=_report_");
	assert_int_equal(f->report.flags, QUEUEFILE_DOTS);
	assert_well_formed(f);
}

static void test_double_bounce_goes_to_postmaster(void **state)
{
	struct fixture *f = *state;
	const char *text;

	f->original.sender = slice_of("");
	put_original(f, MESSAGE);
	f->bounce.kind = BOUNCE_DOUBLE;
	text = write_report(f);
	assert_true(slice_is(f->report.rcpt[0].address, "postmaster@example.com"));
	assert_int_equal(f->report.sender.len, 0);
	assert_has(text, "\r\nTo: <postmaster@example.com>\r\n");
	assert_lacks(text, "X-Postern-Sender");
}

static void test_dsn_parameters(void **state)
{
	static const struct {
		const char *envid, *orcpt, *want, *lacks;
	} ROWS[] = {
		{ "QQ314159", "rfc822;Nobody+2B1@example.net", "Original-Envelope-Id: QQ314159\r\n", "+2B" },
		{ "a+20b", "rfc822;Nobody+2B1@example.net", "Original-Recipient: rfc822; Nobody+1@example.net\r\n",
		  "+20" },
		{ "x+0D+0ABcc:+20evil", "rfc822;a", "Original-Recipient: rfc822; a\r\n", "Original-Envelope-Id" },
		{ "bad+2", "rfc822;a+0A", "X-Postern-Queue-ID", "Original-" },
	};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		f->original.envid = slice_of(ROWS[i].envid);
		f->rcpt[0].orcpt = slice_of(ROWS[i].orcpt);
		put_original(f, MESSAGE);
		assert_has(write_report(f), ROWS[i].want);
		assert_lacks(f->text, ROWS[i].lacks);
		assert_well_formed(f);
		(void)close(f->fd);
	}
	f->fd = -1;
}

static void test_status_is_always_valid(void **state)
{
	static const struct {
		const char *dsn, *failed, *delayed;
	} ROWS[] = {
		{ "5.7.1", "5.7.1", "4.7.1" },
		{ "4.4.7", "4.4.7", "4.4.7" },
		{ "", "5.0.0", "4.0.0" },
		{ "2.0.0", "5.0.0", "4.0.0" },
		{ "5.1", "5.0.0", "4.0.0" },
		{ "5.1.1.1", "5.0.0", "4.0.0" },
		{ "5.1234.1", "5.0.0", "4.0.0" },
		{ "5.100.999", "5.100.999", "4.100.999" },
		{ "5.1.1\r\nX: y", "5.0.0", "4.0.0" },
	};
	struct fixture *f = *state;
	char want[40];

	put_original(f, MESSAGE);
	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		f->failed[0].dsn = slice_of(ROWS[i].dsn);
		f->bounce.kind = BOUNCE_FAILED;
		(void)snprintf(want, sizeof(want), "\r\nStatus: %s\r\n", ROWS[i].failed);
		assert_has(write_report(f), want);
		f->bounce.kind = BOUNCE_DELAYED;
		(void)snprintf(want, sizeof(want), "\r\nStatus: %s\r\n", ROWS[i].delayed);
		assert_has(write_report(f), want);
	}
}

/* --- eight bits, long lines, dirt --- */

static void test_eight_bits(void **state)
{
	static const char UTF8[] = "Subject: Gr\xc3\xbc\xc3\x9f"
				   "e\r\n\r\nGr\xc3\xbc\xc3\x9f"
				   "e\r\n";
	static const char BODY[] = "Subject: a\r\n\r\nGr\xfc\xdf"
				   "e\r\n";
	struct fixture *f = *state;

	f->original.flags = QUEUEFILE_UTF8 | QUEUEFILE_8BIT;
	put_original(f, UTF8);
	assert_has(write_report(f), "text/rfc822-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
				    "Subject: Gr=C3=BC=C3=9Fe\r\n");
	assert_int_equal(f->report.flags, 0);
	(void)close(f->fd);
	f->original.is_ret_full = true;
	put_original(f, UTF8);
	assert_has(write_report(f), "message/global\r\nContent-Transfer-Encoding: base64\r\n\r\n"
				    "U3ViamVjdDogR3LDvMOfZQ0KDQpHcsO8w59lDQo=\r\n");
	assert_int_equal(f->report.flags, 0);
	(void)close(f->fd);
	f->original.flags = QUEUEFILE_8BIT;
	put_original(f, BODY);
	assert_has(write_report(f), "Gr\xfc\xdf"
				    "e\r\n");
	assert_int_equal(f->report.flags, QUEUEFILE_8BIT);
}

static void test_international_addresses(void **state)
{
	struct fixture *f = *state;

	f->rcpt[0].address = slice_of("j\xc3\xb6rg@example.net");
	f->original.sender = slice_of("me@b\xc3\xbc"
				      "cher.example");
	put_original(f, MESSAGE);
	assert_has(write_report(f), "Final-Recipient: utf-8; j\\x{F6}rg@example.net\r\n");
	assert_has(f->text, "To: <me@xn--bcher-kva.example>\r\n");
	assert_has(f->text, "<j=C3=B6rg@example.net>");
	assert_int_equal(f->report.flags, 0);
	(void)close(f->fd);
	f->original.sender = slice_of("j\xc3\xb6rg@example.com");
	put_original(f, MESSAGE);
	assert_has(write_report(f), "To: <j\xc3\xb6rg@example.com>\r\n");
	assert_int_equal(f->report.flags, QUEUEFILE_UTF8);
}

static void test_long_and_dirty_replies(void **state)
{
	static char long_text[5000];
	struct fixture *f = *state;

	put_original(f, MESSAGE);
	memset(long_text, 'x', sizeof(long_text) - 1);
	f->failed[0].text = slice_of(long_text);
	(void)write_report(f);
	assert_well_formed(f);
	for (size_t i = 3; i < sizeof(long_text) - 1; i += 40)
		long_text[i] = ' ';
	(void)write_report(f);
	assert_well_formed(f);
	f->failed[0].text = slice_of("550 a\r\nBcc: victim@example.com\r\n\r\n.\r\n\xff\xc3\xb6\t\033");
	(void)write_report(f);
	assert_lacks(f->text, "\r\nBcc:");
	assert_has(f->text, "Diagnostic-Code: smtp; 550 a??Bcc: victim@example.com????.??\\377\\303\\266??\r\n");
	assert_well_formed(f);
}

static void test_odd_originals(void **state)
{
	static const struct {
		const char *label, *message, *want;
	} ROWS[] = {
		{ "nothing", "", "text/rfc822-headers\r\n\r\n\r\n--=_report_" },
		{ "no header", "\r\nbody\r\n", "text/rfc822-headers\r\n\r\n\r\n--=_report_" },
		{ "no body", "A: b\r\n", "text/rfc822-headers\r\n\r\nA: b\r\n\r\n--=_report_" },
		{ "evil Message-ID", "Message-ID: <a b>\r\n\r\n", "Message-ID: <a b>\r\n" },
		{ "folded Message-ID", "Message-ID:\r\n <a@b>\r\n\r\n", "Message-ID:\r\n <a@b>\r\n" },
	};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		print_message("%s\n", ROWS[i].label);
		put_original(f, ROWS[i].message);
		assert_has(write_report(f), ROWS[i].want);
		assert_lacks(f->text, "In-Reply-To");
		assert_well_formed(f);
		(void)close(f->fd);
	}
	f->fd = -1;
}

/* A header without end, and a message too large to come back whole. */
static void test_sizes_are_bounded(void **state)
{
	struct fixture *f = *state;
	struct buf b;

	buf_init(&b, 4 * BOUNCE_FULL_MAX);
	while (b.len <= BOUNCE_FULL_MAX)
		buf_put_str(&b, "X-Line: some text that is repeated until nobody reads it any more\r\n");
	f->original.is_ret_full = true;
	put_original(f, buf_text(&b));
	assert_has(write_report(f), "text/rfc822-headers");
	assert_true(f->report.size_bytes < BOUNCE_HEADER_MAX + 4096);
	assert_well_formed(f);
	buf_release(&b);
}

/* --- on the disk --- */

static void test_failures_leave_nothing(void **state)
{
	struct fixture *f = *state;

	put_original(f, MESSAGE);
	f->original.size_bytes += 1000; /* shorter than it says */
	assert_int_equal(bounce_write(f->spool_fd, &f->conf, &f->bounce, REPORT_ID), -1);
	assert_int_equal(errno, EIO);
	f->original.size_bytes -= 1000;
	assert_int_equal(unlinkat(f->spool_fd, "incoming", AT_REMOVEDIR), 0); /* nothing was in it */
	assert_int_equal(bounce_write(f->spool_fd, &f->conf, &f->bounce, REPORT_ID), -1);
	assert_int_equal(errno, ENOENT);
}

static void test_debris_is_swept(void **state)
{
	struct fixture *f = *state;
	char path[SPOOL_PATH_MAX], half[SPOOL_PATH_MAX + 10];
	struct stat st;

	put_original(f, MESSAGE);
	spool_incoming_path(REPORT_ID, path);
	(void)snprintf(half, sizeof(half), "%s.report", path);
	assert_int_equal(symlinkat("/etc/passwd", f->spool_fd, half), 0);
	(void)write_report(f);
	(void)close(openat(f->spool_fd, half, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	bounce_sweep(f->spool_fd);
	assert_int_equal(fstatat(f->spool_fd, half, &st, 0), -1);
	assert_int_equal(fstatat(f->spool_fd, path, &st, 0), 0);
}

static void test_dead_letter(void **state)
{
	struct fixture *f = *state;
	char id[SPOOL_ID_TEXT], path[64], text[1000] = "";
	struct stat st;
	int fd;

	f->original.sender = slice_of("");
	put_original(f, MESSAGE);
	f->bounce.kind = BOUNCE_DEAD;
	assert_int_equal(bounce_file_to_dead(f->spool_fd, &f->bounce), 0);
	assert_int_equal(bounce_file_to_dead(f->spool_fd, &f->bounce), 0); /* after a crash once more */
	spool_id_format(ORIGINAL_ID, id);
	(void)snprintf(path, sizeof(path), "dead/%s", id);
	assert_int_equal(fstatat(f->spool_fd, path, &st, 0), 0);
	assert_int_equal(st.st_nlink, 2);
	(void)snprintf(path, sizeof(path), "dead/%s.reason", id);
	fd = openat(f->spool_fd, path, O_RDONLY | O_CLOEXEC);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	(void)close(fd);
	assert_has(text, "there is nobody\nleft to tell.");
	assert_has(text, "<nobody@example.net>\n");
	assert_has(text, "550 5.1.1 no such user");
}

/* --- encodings --- */

static void test_quoted_printable(void **state UNUSED)
{
	static const struct {
		const char *text, *want;
	} ROWS[] = {
		{ "", "" },
		{ "a=b\n", "a=3Db\r\n" },
		{ "blank \ntab\t\r\nend ", "blank=20\r\ntab=09\r\nend=20" },
		{ ".dot\nFrom me\n", "=2Edot\r\n=46rom me\r\n" },
		{ "lone\rcr", "lone=0Dcr" },
		{ "1234567890123456789012345678901234567890123456789012345678901234567890123456",
		  "123456789012345678901234567890123456789012345678901234567890123456789012345=\r\n6" },
		{ "12345678901234567890123456789012345678901234567890123456789012345678901234\xc3\xbc",
		  "12345678901234567890123456789012345678901234567890123456789012345678901234=\r\n=C3=BC" },
	};
	struct buf b;

	buf_init(&b, 1000);
	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		buf_clear(&b);
		bounce_put_quoted_printable(&b, slice_of(ROWS[i].text));
		assert_string_equal(buf_text(&b), ROWS[i].want);
	}
	buf_release(&b);
}

static void test_base64(void **state UNUSED)
{
	static const char *const ROWS[][2] = {
		{ "", "" },
		{ "f", "Zg==\r\n" },
		{ "fo", "Zm8=\r\n" },
		{ "foo", "Zm9v\r\n" },
		{ "foob", "Zm9vYg==\r\n" },
		{ "\xff\xfe\xfd", "//79\r\n" },
	};
	char long_text[115];
	struct buf b;

	buf_init(&b, 1000);
	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		buf_clear(&b);
		bounce_put_base64(&b, slice_of(ROWS[i][0]));
		assert_string_equal(buf_text(&b), ROWS[i][1]);
	}
	memset(long_text, 'a', sizeof(long_text));
	buf_clear(&b);
	bounce_put_base64(&b, (struct slice){ long_text, 115 });
	assert_int_equal(b.len, 78 + 78 + 6);
	buf_release(&b);
}

#define BOUNCE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOUNCE_TEST(test_who_is_told),
		BOUNCE_TEST(test_failure),
		BOUNCE_TEST(test_written_twice_it_is_the_same),
		BOUNCE_TEST(test_several_recipients_and_reasons),
		BOUNCE_TEST(test_delay),
		BOUNCE_TEST(test_whole_message_comes_back),
		BOUNCE_TEST(test_double_bounce_goes_to_postmaster),
		BOUNCE_TEST(test_dsn_parameters),
		BOUNCE_TEST(test_status_is_always_valid),
		BOUNCE_TEST(test_eight_bits),
		BOUNCE_TEST(test_international_addresses),
		BOUNCE_TEST(test_long_and_dirty_replies),
		BOUNCE_TEST(test_odd_originals),
		BOUNCE_TEST(test_sizes_are_bounded),
		BOUNCE_TEST(test_failures_leave_nothing),
		BOUNCE_TEST(test_debris_is_swept),
		BOUNCE_TEST(test_dead_letter),
		cmocka_unit_test(test_quoted_printable),
		cmocka_unit_test(test_base64),
	};

	return cmocka_run_group_tests_name("scheduler_bounce", tests, NULL, NULL);
}
