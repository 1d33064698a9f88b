/* lib_log_test.c - forms of a line, and that nobody who does not read can hold us up. */
#include "lib/clock.h"
#include "lib/log.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static char got[1 << 20];

/* What can be read now, as text. */
static const char *slurp(int fd)
{
	size_t len = 0;
	ssize_t n;

	while (len < sizeof(got) - 1 && (n = read(fd, got + len, sizeof(got) - 1 - len)) > 0)
		len += (size_t)n;
	got[len] = '\0';
	return got;
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)); text += strlen(what))
		n++;
	return n;
}

static const char *pid_text(void)
{
	static char text[32];

	(void)snprintf(text, sizeof(text), "[%d]: ", (int)getpid());
	return text;
}

static int open_file(enum log_format format, char path[32])
{
	int fd;

	(void)snprintf(path, 32, "/tmp/postern-log-XXXXXX");
	fd = mkostemp(path, O_APPEND);
	assert_true(fd >= 0);
	log_open(LOG_TARGET_FILE, format, fd, "smtpout", "mail.example");
	return fd;
}

static void close_file(int fd, const char *path)
{
	log_flush();
	log_open(LOG_TARGET_STDERR, LOG_FORMAT_TEXT, STDERR_FILENO, "test", "h");
	(void)close(fd);
	(void)unlink(path);
}

static void test_text_form_of_a_file(void **state UNUSED)
{
	char path[32], want[200];
	int fd = open_file(LOG_FORMAT_TEXT, path);

	log_info("started, %d workers", 2);
	log_message("00FB2P7K3ABCD", "outcome", "to=<a@b>, status=sent (250 ok)", NULL);
	log_debug("not shown");
	assert_int_equal(lseek(fd, 0, SEEK_END), 0); /* gathered until the turn's end */
	log_flush();
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	(void)slurp(fd);
	assert_int_equal(count(got, "\n"), 2);
	(void)snprintf(want, sizeof(want), " mail.example postern/smtpout%sstarted, 2 workers\n", pid_text());
	assert_non_null(strstr(got, want));
	(void)snprintf(want, sizeof(want), "postern/smtpout%s00FB2P7K3ABCD: to=<a@b>, status=sent (250 ok)\n",
		       pid_text());
	assert_non_null(strstr(got, want));
	assert_true(got[4] == '-' && got[10] == 'T' && strspn(got, "0123456789-T:.Z") == 24);
	close_file(fd, path);
}

static void test_warnings_go_at_once(void **state UNUSED)
{
	char path[32];
	int fd = open_file(LOG_FORMAT_TEXT, path);

	errno = ENOTEMPTY;
	log_warn("look at %s", "this");
	assert_int_equal(errno, ENOTEMPTY);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_non_null(strstr(slurp(fd), "]: warning: look at this\n"));
	log_error("broken");
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_non_null(strstr(slurp(fd), "]: error: broken\n"));
	close_file(fd, path);
}

static void test_json_form(void **state UNUSED)
{
	static const char *const FIELDS[] = { "to",    "a\"b@c.example", "delay", "1.5", "dsn",
					      "2.0.0", "attempt",        "2",     NULL };
	char path[32], want[300];
	int fd = open_file(LOG_FORMAT_JSON, path);

	log_message("00FB2P7K3ABCD", "outcome", "text form only", FIELDS);
	log_warn("a \"quoted\" word");
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	(void)slurp(fd);
	(void)snprintf(want, sizeof(want),
		       "\"host\":\"mail.example\",\"program\":\"smtpout\",\"pid\":%d,\"event\":\"outcome\","
		       "\"queue_id\":\"00FB2P7K3ABCD\",\"to\":\"a\\\"b@c.example\",\"delay\":1.5,\"dsn\":\"2.0.0\","
		       "\"attempt\":2}\n",
		       (int)getpid());
	assert_memory_equal(got, "{\"time\":\"2", 10);
	assert_non_null(strstr(got, want));
	assert_non_null(strstr(got, "\"event\":\"log\",\"level\":\"warn\",\"text\":\"a \\\"quoted\\\" word\"}\n"));
	close_file(fd, path);
}

/* However long, however dirty: one line in, one line out. */
static void test_one_line_stays_one_line(void **state UNUSED)
{
	static char big[10000];
	const char *fields[] = { "text1", big, NULL };

	memset(big, 'x', sizeof(big) - 1);
	for (int form = LOG_FORMAT_TEXT; form <= LOG_FORMAT_JSON; form++) {
		char path[32];
		int fd = open_file((enum log_format)form, path);

		log_info("%s", big);
		log_info("two\nlines\r\033[2J");
		log_message("ID", "outcome", big, fields);
		log_flush();
		assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
		(void)slurp(fd);
		assert_int_equal(count(got, "\n"), 3);
		assert_true(strcspn(got, "\n") < 4000);
		assert_null(strchr(got, '\033'));
		if (form == LOG_FORMAT_JSON)
			assert_int_equal(count(got, "}\n"), 3);
		close_file(fd, path);
	}
}

static void test_syslog_form(void **state UNUSED)
{
	int pair[2];
	char want[100];
	ssize_t n;

	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
	log_open(LOG_TARGET_SYSLOG, LOG_FORMAT_TEXT, pair[0], "scheduler", "ignored");
	log_info("first");
	log_info("second");
	log_error("third");
	n = read(pair[1], got, sizeof(got) - 1);
	assert_true(n > 0);
	got[n] = '\0';
	(void)snprintf(want, sizeof(want), " postern/scheduler%sfirst", pid_text());
	assert_memory_equal(got, "<22>", 4);
	assert_string_equal(got + 4 + 15, want); /* no line end in a datagram */
	n = read(pair[1], got, sizeof(got) - 1);
	got[n > 0 ? n : 0] = '\0';
	assert_non_null(strstr(got, "]: second"));
	n = read(pair[1], got, sizeof(got) - 1);
	got[n > 0 ? n : 0] = '\0';
	assert_memory_equal(got, "<19>", 4);
	assert_non_null(strstr(got, "]: error: third"));
	log_open(LOG_TARGET_STDERR, LOG_FORMAT_TEXT, STDERR_FILENO, "test", "h");
	(void)close(pair[0]);
	(void)close(pair[1]);
}

/* syslogd stops and comes back under the same name: its clients' sockets point at the dead one. */
static void test_syslogd_restart(void **state UNUSED)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	char dir[] = "/tmp/postern-log-XXXXXX";
	int server, client, again;
	uint64_t lost = log_lost_count();

	assert_non_null(mkdtemp(dir));
	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/log", dir);
	server = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(server, (struct sockaddr *)&sun, sizeof(sun)), 0);
	client = socket(AF_UNIX, SOCK_DGRAM, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&sun, sizeof(sun)), 0);
	log_open(LOG_TARGET_SYSLOG, LOG_FORMAT_TEXT, client, "pickup", "h");
	(void)close(server);
	(void)unlink(sun.sun_path);
	log_warn("nobody there");
	assert_int_equal(log_lost_count(), lost + 1);
	again = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(again, (struct sockaddr *)&sun, sizeof(sun)), 0);
	for (int i = 0; i < 30 && log_lost_count() == lost + (uint64_t)i + 1; i++) {
		struct timespec tenth = { 0, 100000000 };

		log_warn("anybody there?");
		(void)nanosleep(&tenth, NULL); /* it tries once a second */
	}
	assert_true(read(again, got, sizeof(got)) > 0);
	log_open(LOG_TARGET_STDERR, LOG_FORMAT_TEXT, STDERR_FILENO, "test", "h");
	(void)close(client);
	(void)close(again);
	(void)unlink(sun.sun_path);
	(void)rmdir(dir);
}

/* A blocking pipe that nobody reads: no line may wait, what does not fit is counted, and the count told later. */
static void test_full_pipe_never_blocks(void **state UNUSED)
{
	uint64_t lost = log_lost_count(), lost_here;
	struct mono begin = clock_mono();
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	log_open(LOG_TARGET_STDERR, LOG_FORMAT_TEXT, fds[1], "limiter", "h");
	(void)alarm(20);
	for (int i = 0; i < 5000; i++)
		log_info("line %d of very many, long enough to fill the pipe soon ........................", i);
	log_flush();
	(void)alarm(0);
	assert_true(clock_mono().ms - begin.ms < 10000);
	lost_here = log_lost_count() - lost;
	assert_true(lost_here > 1000 && lost_here < 5000);
	(void)slurp(fds[0]);
	log_flush(); /* what was kept */
	(void)slurp(fds[0]);
	log_flush();
	assert_non_null(strstr(slurp(fds[0]), "log lines were lost"));
	log_info("afterwards");
	log_flush();
	assert_non_null(strstr(slurp(fds[0]), "]: afterwards\n"));
	assert_null(strstr(got, "were lost"));
	log_open(LOG_TARGET_STDERR, LOG_FORMAT_TEXT, STDERR_FILENO, "test", "h");
	(void)close(fds[0]);
	(void)close(fds[1]);
}

/* A full disk (here: a file size limit) cuts a line; later lines must not be glued to the piece. */
static void test_full_disk(void **state UNUSED)
{
	uint64_t lost = log_lost_count();
	struct rlimit old, small;
	char path[32];
	int fd = open_file(LOG_FORMAT_TEXT, path);

	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = (struct rlimit){ 150, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (int i = 0; i < 4; i++) {
		log_info("line %d: some text that takes room", i);
		log_flush();
	}
	assert_true(log_lost_count() > lost);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	log_info("room again");
	log_flush();
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	(void)slurp(fd);
	for (char *line = got, *end; (end = strchr(line, '\n')); line = end + 1)
		assert_memory_equal(line, "20", 2); /* each begins with its time */
	assert_non_null(strstr(got, "]: room again\n"));
	assert_non_null(strstr(got, " lost ("));
	close_file(fd, path);
}

/* What the parent has gathered must not be written by a child too. */
static void test_fork(void **state UNUSED)
{
	char path[32];
	int fd = open_file(LOG_FORMAT_TEXT, path), status;
	pid_t pid;

	log_info("from the parent");
	pid = fork();
	if (pid == 0) {
		log_flush();
		log_error("from the child");
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	log_flush();
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(count(slurp(fd), "from the parent"), 1);
	assert_int_equal(count(got, "from the child"), 1);
	close_file(fd, path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_form_of_a_file),
		cmocka_unit_test(test_warnings_go_at_once),
		cmocka_unit_test(test_json_form),
		cmocka_unit_test(test_one_line_stays_one_line),
		cmocka_unit_test(test_syslog_form),
		cmocka_unit_test(test_syslogd_restart),
		cmocka_unit_test(test_full_pipe_never_blocks),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_fork),
	};

	return cmocka_run_group_tests_name("lib_log", tests, NULL, NULL);
}
