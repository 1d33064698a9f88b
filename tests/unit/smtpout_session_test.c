/* A session's end when several things come at once. */
#include "lib/hosts.h"
#include "smtpout/session.h"
#include "tests/unit/loop_turn.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>
/* cmocka last: it needs setjmp.h and others above */
#include <cmocka.h>

enum { SESSION = 7, TIMEOUT_MS = 50, TURNS_MAX = 1000 };

static char hostname[] = "client.example", name[] = "relay";

struct fixture {
	struct loop *loop;
	struct channel *channel;
	struct conf_server server;
	struct conf conf;
	struct worker w;
	int listener, scheduler[2], hangup[2];
};

static bool on_packet(void *arg UNUSED, const struct msg_head *head UNUSED, const struct packet *p UNUSED)
{
	return true;
}

static int listen_somewhere(struct fixture *f)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	f->server.port = ntohs(at.sin_port);
	return fd;
}

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->server = (struct conf_server){ .name = name, .method = METHOD_RELAY, .tls = TLS_NONE };
	f->server.timeout_ms = TIMEOUT_MS;
	f->server.connect_timeout_ms = 10000;
	f->listener = listen_somewhere(f);
	f->conf = (struct conf){ .hostname = hostname, .server = &f->server, .server_count = 1 };
	conf_index_servers(&f->conf);
	f->loop = loop_new();
	assert_int_equal(pipe2(f->scheduler, O_NONBLOCK | O_CLOEXEC | O_DIRECT), 0);
	assert_int_equal(pipe2(f->hangup, O_NONBLOCK | O_CLOEXEC), 0);
	f->channel = channel_new(f->loop, f->scheduler[0], f->scheduler[1], "scheduler", 1, on_packet, f);
	channel_set_peer(f->channel, 1);
	worker_init(&f->w, f->loop, &f->conf, -1);
	f->w.book = report_book_new(f->channel, NULL, &f->conf, worker_give_slot, &f->w);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	worker_release(&f->w);
	channel_free(&f->channel);
	free(f->conf.server_by_key);
	loop_free(&f->loop);
	for (int i = 0; i < 2; i++) {
		close(f->scheduler[i]);
		close(f->hangup[i]);
	}
	close(f->listener);
	free(f);
	return 0;
}

/* Opens the session and waits until it is connected, and waits for a greeting that does not come. */
static int connect_session(struct fixture *f)
{
	struct hosts hosts = { .count = 1, .host[0] = { .name = "localhost", .address_count = 1 } };
	struct msg_connect m = { .session = SESSION, .tls = TLS_UNSET };
	struct buf bytes;
	int fd = -1;

	hosts.host[0].address[0].family = AF_INET;
	memcpy(hosts.host[0].address[0].bytes, (const uint8_t[]){ 127, 0, 0, 1 }, 4);
	buf_init(&bytes, HOSTS_BYTES_MAX + 1);
	hosts_encode(&bytes, &hosts);
	m.hosts = buf_slice(&bytes);
	m.server = conf_server_key(&f->server);
	assert_true(session_open(&f->w, &m));
	for (unsigned i = 0; i < TURNS_MAX && fd < 0; i++) {
		loop_turn(f->loop);
		fd = accept(f->listener, NULL, NULL);
		usleep(1000);
	}
	assert_true(fd >= 0);
	loop_turn(f->loop);
	buf_release(&bytes);
	return fd;
}

static void on_hangup(void *arg, int fd UNUSED, unsigned events UNUSED)
{
	struct fixture *f = arg;
	struct session *s = session_find(&f->w, SESSION);

	assert_non_null(s);
	session_hang_up(s);
}

/* The order to hang up is read in the same turn in which the server's time is over: one end, not two. */
static void test_hung_up_as_its_time_runs_out(void **state)
{
	struct fixture *f = *state;
	struct loop_io *io = loop_io_new(f->loop, f->hangup[0], LOOP_READ, on_hangup, f);
	int fd = connect_session(f);

	assert_int_equal(write(f->hangup[1], "x", 1), 1);
	usleep(2 * TIMEOUT_MS * 1000);
	loop_turn(f->loop);
	assert_null(session_find(&f->w, SESSION));
	loop_io_free(&io);
	loop_turn(f->loop);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_hung_up_as_its_time_runs_out, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
