/* sink.c - an SMTP server that takes everything, fast, and tells what it took; for system tests, bench and demo.
 *
 * One epoll loop, no TLS. Strict where it matters to a client: only CRLF "." CRLF ends a message, dots are unstuffed
 * exactly, bare CR and LF are counted. It can refuse recipients by pattern, and be broken as a whole after a number of
 * messages or by signal: SIGUSR1 breaks it, SIGUSR2 mends it, SIGTERM ends it. At its end it prints one line:
 * messages=N recipients=N sessions=N bytes=N bare=N first_ms=T last_ms=T (CLOCK_MONOTONIC), and with -c most_open=N.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <netinet/tcp.h>
#include <search.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { INPUT_MAX = 65536, HEAD_MAX = 8192, LISTENERS_MAX = 16, RULES_MAX = 32, EVENTS_MAX = 256 };

enum breakage { BREAK_TEMPFAIL, BREAK_REFUSE, BREAK_BYE, BREAK_DROP };

struct text {
	char *ptr;
	size_t len, cap;
};

/* A recipient that matches gets this reply: always, or (is_once) only the first time it is named. */
struct rule {
	const char *pattern, *reply;
	bool is_once;
};

struct listener {
	int fd;
	char name[64]; /* as given: ADDRESS:PORT */
	struct sockaddr_storage address;
	socklen_t address_len;
};

struct session {
	struct listener *listener; /* both structs are told apart in epoll by the low bit of the pointer */
	int fd;
	unsigned number, transactions;
	bool in_data, at_line_start, is_closing, is_waiting, wants_out;
	char last_byte;
	char input[INPUT_MAX];
	size_t input_len;
	struct text output, helo, mail, rcpts;
	unsigned rcpt_count;
	FILE *record;
	char record_name[32];
	char head[HEAD_MAX + 1];
	size_t head_len;
	uint64_t bytes;
	unsigned bare;
	int64_t due_ms;                                      /* when the delayed reply goes out */
	struct session *next_waiting, *next_open, **open_at; /* open_at: what points to this one */
};

static struct {
	int epoll, ledger, record_dir;
	struct listener listeners[LISTENERS_MAX];
	unsigned listener_count;
	struct rule rules[RULES_MAX];
	unsigned rule_count;
	void *seen; /* tree of recipients that met a rule with is_once */
	const char *id_header;
	unsigned delay_ms;
	uint64_t break_after, quit_after;
	enum breakage breakage;
	bool is_broken, may_pipeline, counts_open;
	struct session *waiting_first, **waiting_last, *first_open;
	struct text ledger_text;
	uint64_t messages, recipients, bytes, bare;
	unsigned sessions, most_open;
	int64_t first_ms, last_ms;
} sink = { .ledger = -1, .record_dir = -1, .id_header = "Message-ID", .may_pipeline = true };

static int64_t now_ms(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "sink: %s: %s\n", what, strerror(errno));
	exit(71);
}

static void text_put(struct text *t, const char *bytes, size_t len)
{
	if (t->len + len + 1 > t->cap) {
		t->cap = (t->len + len + 1) * 2;
		t->ptr = realloc(t->ptr, t->cap);
		if (t->ptr == NULL)
			die("memory");
	}
	memcpy(t->ptr + t->len, bytes, len);
	t->len += len;
	t->ptr[t->len] = '\0';
}

static void text_set(struct text *t, const char *bytes, size_t len)
{
	t->len = 0;
	text_put(t, bytes, len);
}

__attribute__((format(printf, 2, 3))) static void text_printf(struct text *t, const char *format, ...)
{
	char line[4096];
	va_list args;

	va_start(args, format);
	int n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	text_put(t, line, n < (int)sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

static void reply(struct session *s, const char *line)
{
	text_put(&s->output, line, strlen(line));
	text_put(&s->output, "\r\n", 2);
}

static void listener_open(struct listener *l)
{
	int on = 1;

	l->fd = socket(l->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		die("socket");
	setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(l->fd, (struct sockaddr *)&l->address, l->address_len) < 0 || listen(l->fd, 1024) < 0)
		die(l->name);
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = (uintptr_t)l | 1 };
	epoll_ctl(sink.epoll, EPOLL_CTL_ADD, l->fd, &e);
}

static void set_broken(bool is_broken)
{
	if (sink.is_broken == is_broken)
		return;
	sink.is_broken = is_broken;
	if (sink.breakage != BREAK_REFUSE)
		return;
	for (unsigned i = 0; i < sink.listener_count; i++) {
		if (is_broken)
			close(sink.listeners[i].fd);
		else
			listener_open(&sink.listeners[i]);
	}
}

static void session_reset(struct session *s)
{
	s->mail.len = s->rcpts.len = 0;
	s->rcpt_count = s->bare = 0;
	s->head_len = 0;
	s->bytes = 0;
}

static void session_free(struct session *s)
{
	for (struct session **w = &sink.waiting_first; *w != NULL; w = &(*w)->next_waiting) {
		if (*w != s)
			continue;
		*w = s->next_waiting;
		if (sink.waiting_last == &s->next_waiting)
			sink.waiting_last = w;
		break;
	}
	if (s->record != NULL) { /* a message that never ended */
		fclose(s->record);
		unlinkat(sink.record_dir, s->record_name, 0);
	}
	*s->open_at = s->next_open;
	if (s->next_open != NULL)
		s->next_open->open_at = s->open_at;
	close(s->fd);
	free(s->output.ptr), free(s->helo.ptr), free(s->mail.ptr), free(s->rcpts.ptr);
	free(s);
}

/*
 * Connections that the other side has not closed: a killed client's are in CLOSE_WAIT, or reset, before anybody can
 * learn of its death, however long it takes us to read their end. Called with a new one: those counted were open beside
 * it.
 */
static void count_open(void)
{
	unsigned count = 0;

	for (struct session *s = sink.first_open; s != NULL; s = s->next_open) {
		struct tcp_info info;
		socklen_t len = sizeof(info);

		if (getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_state == TCP_ESTABLISHED)
			count++;
	}
	if (count > sink.most_open)
		sink.most_open = count;
}

static void session_accept(struct listener *l)
{
	int fd, on = 1;

	while ((fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct session *s = calloc(1, sizeof(*s));
		if (s == NULL)
			die("memory");
		s->listener = l;
		s->fd = fd;
		s->number = ++sink.sessions;
		s->next_open = sink.first_open;
		if (s->next_open != NULL)
			s->next_open->open_at = &s->next_open;
		s->open_at = &sink.first_open;
		sink.first_open = s;
		if (sink.counts_open)
			count_open();
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		struct epoll_event e = { .events = EPOLLIN, .data.ptr = s };
		epoll_ctl(sink.epoll, EPOLL_CTL_ADD, fd, &e);
		static const char greeting[] = "220 sink.example ESMTP\r\n";
		if (write(fd, greeting, sizeof(greeting) - 1) < 0)
			continue; /* its reading end will tell */
	}
}

/* What the client may hear instead of 250 for this recipient; NULL: nothing. */
static const char *recipient_refusal(const char *address)
{
	for (unsigned i = 0; i < sink.rule_count; i++) {
		struct rule *r = &sink.rules[i];
		if (fnmatch(r->pattern, address, FNM_CASEFOLD) != 0)
			continue;
		if (!r->is_once)
			return r->reply;
		char *key = strdup(address);
		char **found = tsearch(key, &sink.seen, (int (*)(const void *, const void *))strcmp);
		if (found != NULL && *found == key)
			return r->reply;
		free(key);
	}
	return NULL;
}

static void command_rcpt(struct session *s, const char *argument)
{
	char address[1024];

	if (s->mail.len == 0) {
		reply(s, "503 5.5.1 MAIL first");
		return;
	}
	const char *from = strchr(argument, '<'), *to = from != NULL ? strchr(from, '>') : NULL;
	if (to == NULL || (size_t)(to - from) > sizeof(address)) {
		reply(s, "501 5.1.3 bad address");
		return;
	}
	snprintf(address, sizeof(address), "%.*s", (int)(to - from - 1), from + 1);
	const char *refusal = recipient_refusal(address);
	if (refusal != NULL) {
		reply(s, refusal);
		return;
	}
	if (s->rcpt_count++ > 0)
		text_put(&s->rcpts, "\n", 1);
	text_put(&s->rcpts, argument, strlen(argument));
	reply(s, "250 2.1.5 recipient ok");
}

static void record_open(struct session *s)
{
	snprintf(s->record_name, sizeof(s->record_name), "%u-%u.tmp", s->number, s->transactions + 1);
	int fd = openat(sink.record_dir, s->record_name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	s->record = fd < 0 ? NULL : fdopen(fd, "w");
	if (s->record == NULL)
		die(s->record_name);
	fprintf(s->record, "server %s\nhelo %s\nmail %s\n", s->listener->name, s->helo.ptr != NULL ? s->helo.ptr : "",
		s->mail.ptr);
	char *save = NULL, *copy = strdup(s->rcpts.ptr);
	for (char *r = strtok_r(copy, "\n", &save); r != NULL; r = strtok_r(NULL, "\n", &save))
		fprintf(s->record, "rcpt %s\n", r);
	free(copy);
	fputc('\n', s->record);
}

static void command_data(struct session *s)
{
	if (s->rcpt_count == 0) {
		reply(s, "554 5.5.1 no valid recipients");
		return;
	}
	reply(s, "354 go ahead");
	s->in_data = s->at_line_start = true;
	s->last_byte = '\n';
	if (sink.record_dir >= 0)
		record_open(s);
}

static void command_ehlo(struct session *s, bool is_extended, const char *argument)
{
	text_set(&s->helo, argument, strlen(argument));
	session_reset(s);
	if (!is_extended) {
		reply(s, "250 sink.example");
		return;
	}
	reply(s, "250-sink.example");
	if (sink.may_pipeline)
		reply(s, "250-PIPELINING");
	reply(s, "250-SIZE 104857600");
	reply(s, "250-8BITMIME");
	reply(s, "250 ENHANCEDSTATUSCODES");
}

static void command_mail(struct session *s, const char *argument)
{
	if (sink.is_broken && sink.breakage == BREAK_TEMPFAIL) {
		reply(s, "451 4.3.0 out of order, try later");
		return;
	}
	session_reset(s);
	text_set(&s->mail, argument, strlen(argument));
	reply(s, "250 2.1.0 sender ok");
}

static const char *argument_of(const char *line, const char *verb)
{
	size_t n = strlen(verb);

	if (strncasecmp(line, verb, n) != 0)
		return NULL;
	line += n;
	return line + strspn(line, " ");
}

static void command(struct session *s, const char *line)
{
	const char *a;

	if (sink.is_broken && sink.breakage == BREAK_BYE) {
		reply(s, "421 4.3.2 going down");
		s->is_closing = true;
	} else if ((a = argument_of(line, "RCPT TO:")) != NULL) {
		command_rcpt(s, a);
	} else if ((a = argument_of(line, "MAIL FROM:")) != NULL) {
		command_mail(s, a);
	} else if (strcasecmp(line, "DATA") == 0) {
		command_data(s);
	} else if ((a = argument_of(line, "EHLO")) != NULL) {
		command_ehlo(s, true, a);
	} else if ((a = argument_of(line, "HELO")) != NULL) {
		command_ehlo(s, false, a);
	} else if (strcasecmp(line, "QUIT") == 0) {
		reply(s, "221 2.0.0 bye");
		s->is_closing = true;
	} else if (strcasecmp(line, "RSET") == 0 || strcasecmp(line, "NOOP") == 0) {
		if (strcasecmp(line, "RSET") == 0)
			session_reset(s);
		reply(s, "250 2.0.0 ok");
	} else {
		reply(s, "502 5.5.1 unknown command");
	}
}

static void data_keep(struct session *s, const char *bytes, size_t len)
{
	s->bytes += len;
	s->last_byte = bytes[len - 1];
	if (sink.ledger >= 0 && s->head_len < HEAD_MAX) {
		size_t n = len < HEAD_MAX - s->head_len ? len : HEAD_MAX - s->head_len;
		memcpy(s->head + s->head_len, bytes, n);
		s->head_len += n;
	}
	if (s->record != NULL)
		fwrite(bytes, 1, len, s->record);
}

/* Consumes what it can; *is_end tells that the final dot was among it. */
static size_t data_take(struct session *s, const char *bytes, size_t len, bool *is_end)
{
	size_t used = 0;

	while (used < len) {
		const char *p = bytes + used;
		size_t left = len - used;
		if (s->at_line_start && *p == '.') {
			if (left < 3)
				return used;
			if (p[1] == '\r' && p[2] == '\n') {
				*is_end = true;
				return used + 3;
			}
			p++, used++, left--;
		}
		s->at_line_start = false;
		const char *lf = memchr(p, '\n', left);
		size_t n = lf != NULL ? (size_t)(lf - p) + 1 : left;
		if (lf != NULL) {
			char before = n > 1 ? lf[-1] : s->last_byte;
			s->at_line_start = before == '\r';
			s->bare += before != '\r';
		}
		data_keep(s, p, n);
		used += n;
	}
	return used;
}

/* TIME_MS SERVER SESSION TRANSACTION BYTES BARE ID MAIL RCPT,RCPT... separated by tabs */
static void ledger_add(struct session *s)
{
	char id[512] = "-";
	size_t n = strlen(sink.id_header);

	s->head[s->head_len] = '\0';
	for (const char *line = s->head; line != NULL && *line != '\0' && *line != '\r';) {
		if (strncasecmp(line, sink.id_header, n) == 0 && line[n] == ':')
			snprintf(id, sizeof(id), "%.*s", (int)strcspn(line + n + 1, "\r\n"),
				 line + n + 1 + (line[n + 1] == ' '));
		line = strchr(line, '\n');
		if (line != NULL)
			line++;
	}
	id[strcspn(id, "\r")] = '\0';
	for (char *p = s->rcpts.ptr; *p != '\0'; p++) {
		if (*p == '\n')
			*p = ',';
	}
	text_printf(&sink.ledger_text, "%lld\t%s\t%u\t%u\t%llu\t%u\t%s\t%s\t", (long long)now_ms(CLOCK_REALTIME),
		    s->listener->name, s->number, s->transactions, (unsigned long long)s->bytes, s->bare, id,
		    s->mail.ptr);
	text_put(&sink.ledger_text, s->rcpts.ptr, s->rcpts.len);
	text_put(&sink.ledger_text, "\n", 1);
}

static void ledger_flush(void)
{
	if (sink.ledger_text.len > 0 && write(sink.ledger, sink.ledger_text.ptr, sink.ledger_text.len) < 0)
		die("ledger");
	sink.ledger_text.len = 0;
}

static void record_close(struct session *s)
{
	char name[32];

	snprintf(name, sizeof(name), "%u-%u", s->number, s->transactions);
	if (fclose(s->record) != 0 || renameat(sink.record_dir, s->record_name, sink.record_dir, name) < 0)
		die("record");
	s->record = NULL;
}

static void message_done(struct session *s)
{
	s->in_data = false;
	s->transactions++;
	sink.last_ms = now_ms(CLOCK_MONOTONIC);
	if (sink.messages++ == 0)
		sink.first_ms = sink.last_ms;
	sink.recipients += s->rcpt_count;
	sink.bytes += s->bytes;
	sink.bare += s->bare;
	if (s->record != NULL)
		record_close(s);
	if (sink.ledger >= 0)
		ledger_add(s);
	session_reset(s);
	if (sink.messages == sink.break_after)
		set_broken(true);
	if (sink.delay_ms == 0) {
		reply(s, "250 2.0.0 taken");
		return;
	}
	s->is_waiting = true;
	s->due_ms = sink.last_ms + sink.delay_ms;
	s->next_waiting = NULL;
	*sink.waiting_last = s;
	sink.waiting_last = &s->next_waiting;
}

static void session_work(struct session *s)
{
	size_t used = 0;

	while (!s->is_closing && !s->is_waiting && used < s->input_len) {
		char *p = s->input + used;
		size_t left = s->input_len - used;
		if (s->in_data) {
			bool is_end = false;
			size_t n = data_take(s, p, left, &is_end);
			used += n;
			if (is_end)
				message_done(s);
			else if (n < left)
				break;
			continue;
		}
		char *lf = memchr(p, '\n', left);
		if (lf == NULL)
			break;
		used = (size_t)(lf - s->input) + 1;
		if (lf > p && lf[-1] == '\r')
			lf--;
		*lf = '\0';
		command(s, p);
	}
	s->input_len -= used;
	memmove(s->input, s->input + used, s->input_len);
}

/* False when the session is over. */
static bool session_flush(struct session *s)
{
	if (s->output.len > 0) {
		ssize_t n = write(s->fd, s->output.ptr, s->output.len);
		if (n < 0 && errno != EAGAIN)
			return false;
		if (n > 0) {
			s->output.len -= (size_t)n;
			memmove(s->output.ptr, s->output.ptr + n, s->output.len);
		}
	}
	if ((s->output.len > 0) != s->wants_out) {
		s->wants_out = !s->wants_out;
		struct epoll_event e = { .events = EPOLLIN | (s->wants_out ? EPOLLOUT : 0), .data.ptr = s };
		epoll_ctl(sink.epoll, EPOLL_CTL_MOD, s->fd, &e);
	}
	return !s->is_closing || s->output.len > 0;
}

static void session_event(struct session *s, uint32_t events)
{
	if (sink.is_broken && (sink.breakage == BREAK_DROP || sink.breakage == BREAK_REFUSE)) {
		session_free(s);
		return;
	}
	if ((events & EPOLLIN) && s->input_len < INPUT_MAX) {
		ssize_t n = read(s->fd, s->input + s->input_len, INPUT_MAX - s->input_len);
		if (n == 0 || (n < 0 && errno != EAGAIN)) {
			session_free(s);
			return;
		}
		if (n > 0)
			s->input_len += (size_t)n;
		session_work(s);
		if (s->input_len == INPUT_MAX && !s->is_waiting)
			s->is_closing = true; /* a command without end */
	} else if (events & (EPOLLHUP | EPOLLERR)) {
		session_free(s);
		return;
	}
	if (!session_flush(s))
		session_free(s);
}

/* Sends delayed replies that are due; returns how long epoll may sleep. */
static int waiting_run(void)
{
	while (sink.waiting_first != NULL) {
		struct session *s = sink.waiting_first;
		int64_t left = s->due_ms - now_ms(CLOCK_MONOTONIC);
		if (left > 0)
			return (int)left;
		sink.waiting_first = s->next_waiting;
		if (sink.waiting_first == NULL)
			sink.waiting_last = &sink.waiting_first;
		s->is_waiting = false;
		reply(s, "250 2.0.0 taken");
		session_work(s);
		if (!session_flush(s))
			session_free(s);
	}
	return -1;
}

static void run(int signals)
{
	struct epoll_event events[EVENTS_MAX];

	for (;;) {
		int n = epoll_wait(sink.epoll, events, EVENTS_MAX, waiting_run());
		for (int i = 0; i < n; i++) {
			uint64_t data = events[i].data.u64;
			struct signalfd_siginfo info;
			if (data & 1) {
				session_accept((struct listener *)(uintptr_t)(data & ~(uint64_t)1));
			} else if (data != 0) {
				session_event(events[i].data.ptr, events[i].events);
			} else if (read(signals, &info, sizeof(info)) == sizeof(info)) {
				if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
					return;
				set_broken(info.ssi_signo == SIGUSR1);
			}
		}
		ledger_flush();
		if (sink.quit_after > 0 && sink.messages >= sink.quit_after)
			return;
	}
}

static void listener_parse(const char *text)
{
	struct listener *l = &sink.listeners[sink.listener_count];
	struct sockaddr_in *v4 = (struct sockaddr_in *)&l->address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&l->address;

	if (sink.listener_count == LISTENERS_MAX || strlen(text) >= sizeof(l->name))
		goto bad;
	memcpy(l->name, text, strlen(text) + 1);
	char address[64];
	memcpy(address, l->name, sizeof(address));
	char *colon = strrchr(address, ':');
	if (colon == NULL)
		goto bad;
	*colon = '\0';
	in_port_t port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
	if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET, v4->sin_port = port, l->address_len = sizeof(*v4);
	} else if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6, v6->sin6_port = port, l->address_len = sizeof(*v6);
	} else {
		goto bad;
	}
	sink.listener_count++;
	return;
bad:
	fprintf(stderr, "sink: %s: want ADDRESS:PORT\n", text);
	exit(64);
}

static void rule_parse(char *text, bool is_once)
{
	char *equals = strchr(text, '=');

	if (equals == NULL || sink.rule_count == RULES_MAX) {
		fprintf(stderr, "sink: %s: want PATTERN=REPLY\n", text);
		exit(64);
	}
	*equals = '\0';
	sink.rules[sink.rule_count++] = (struct rule){ text, equals + 1, is_once };
}

static enum breakage breakage_parse(const char *text)
{
	static const char *const names[] = { "tempfail", "refuse", "bye", "drop" };

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(names[i], text) == 0)
			return (enum breakage)i;
	}
	fprintf(stderr, "sink: %s: want tempfail, refuse, bye or drop\n", text);
	exit(64);
}

static const char USAGE[] =
	"usage: sink [option]... ADDRESS:PORT...\n"
	"  -l FILE           append a line per message: time server session transaction bytes bare id mail rcpts\n"
	"  -i HEADER         whose value is the id there (Message-ID)\n"
	"  -r DIR            keep each message: envelope, blank line, exact bytes without dot-stuffing\n"
	"  -x PATTERN=REPLY  answer to recipients like PATTERN; -o likewise, but each only the first time\n"
	"  -d MS             wait before the reply to the final dot\n"
	"  -n N              be broken after N messages\n"
	"  -m HOW            broken is: tempfail (451 to MAIL), refuse (not listening), bye (421), drop (close)\n"
	"  -P                no PIPELINING\n"
	"  -c                count how many connections are open at once\n"
	"  -q N              end after N messages\n";

int main(int argc, char **argv)
{
	sigset_t set;
	int c;

	sink.waiting_last = &sink.waiting_first;
	while ((c = getopt(argc, argv, "l:i:r:x:o:d:n:m:Pcq:")) != -1) {
		switch (c) {
		case 'l':
			sink.ledger = open(optarg, O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0644);
			if (sink.ledger < 0)
				die(optarg);
			break;
		case 'i':
			sink.id_header = optarg;
			break;
		case 'r':
			sink.record_dir = open(optarg, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
			if (sink.record_dir < 0)
				die(optarg);
			break;
		case 'x':
		case 'o':
			rule_parse(optarg, c == 'o');
			break;
		case 'd':
			sink.delay_ms = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'n':
			sink.break_after = strtoull(optarg, NULL, 10);
			break;
		case 'm':
			sink.breakage = breakage_parse(optarg);
			break;
		case 'P':
			sink.may_pipeline = false;
			break;
		case 'c':
			sink.counts_open = true;
			break;
		case 'q':
			sink.quit_after = strtoull(optarg, NULL, 10);
			break;
		default:
			fputs(USAGE, stderr);
			return 64;
		}
	}
	for (int i = optind; i < argc; i++)
		listener_parse(argv[i]);
	if (sink.listener_count == 0) {
		fputs(USAGE, stderr);
		return 64;
	}
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM), sigaddset(&set, SIGINT), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sink.epoll = epoll_create1(EPOLL_CLOEXEC);
	int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 0 };
	epoll_ctl(sink.epoll, EPOLL_CTL_ADD, signals, &e);
	for (unsigned i = 0; i < sink.listener_count; i++)
		listener_open(&sink.listeners[i]);
	run(signals);
	printf("messages=%llu recipients=%llu sessions=%u bytes=%llu bare=%llu first_ms=%lld last_ms=%lld",
	       (unsigned long long)sink.messages, (unsigned long long)sink.recipients, sink.sessions,
	       (unsigned long long)sink.bytes, (unsigned long long)sink.bare, (long long)sink.first_ms,
	       (long long)sink.last_ms);
	if (sink.counts_open)
		printf(" most_open=%u", sink.most_open);
	putchar('\n');
	return 0;
}
