/* instance.c - looks at SPOOL/run from outside. */
#include "tools/instance.h"
#include "lib/text.h"
#include <fcntl.h>
#include <unistd.h>

static void open_run(struct instance *in)
{
	char *run = xasprintf("%s/run", in->spool);

	in->run_fd = open(run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(run);
}

enum wanted { WANTS_TEXT, WANTS_FILES, WANTS_START };

static int open_instance(struct instance *in, const struct command_context *c, enum wanted wanted)
{
	struct conf_errors errors = { 0 };
	bool is_right;

	*in = (struct instance){ .run_fd = -1 };
	in->conf =
		wanted == WANTS_TEXT ? conf_read(c->conf_path, -1, &errors) : conf_read_all(c->conf_path, -1, &errors);
	is_right = in->conf && (errors.count == 0 || wanted == WANTS_START);
	for (unsigned i = 0; i < errors.count && !is_right; i++)
		fprintf(stderr, "postern: %s\n", errors.text[i]);
	conf_errors_release(&errors);
	if (!is_right) {
		conf_free(&in->conf);
		return EXIT_STATUS_CONFIG;
	}
	in->spool = xstrdup(in->conf->spool);
	open_run(in);
	return 0;
}

int instance_open(struct instance *in, const struct command_context *c)
{
	return open_instance(in, c, WANTS_TEXT);
}

int instance_open_checked(struct instance *in, const struct command_context *c)
{
	return open_instance(in, c, WANTS_FILES);
}

int instance_open_to_start(struct instance *in, const struct command_context *c)
{
	return open_instance(in, c, WANTS_START);
}

/* The value of the first line that reads spool = "..."; NULL when there is none. */
static char *guess_value(const char *text)
{
	for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		const char *at = line + strspn(line, " \t"), *end;

		if (strncmp(at, "spool", 5) != 0)
			continue;
		at += 5 + strspn(at + 5, " \t");
		at += *at == '=' ? 1 + strspn(at + 1, " \t") : 0;
		if ((*at == '"' || *at == '\'') && (end = strchr(at + 1, *at)))
			return xstrndup(at + 1, (size_t)(end - at - 1));
	}
	return NULL;
}

static char *guess_spool(const char *conf_path)
{
	struct conf_errors errors = { 0 };
	size_t len;
	char *text = conf_slurp(conf_path, &len, &errors), *value = text ? guess_value(text) : NULL, *spool = value;
	const char *slash = strrchr(conf_path, '/');

	if (value && value[0] != '/' && slash) {
		spool = xasprintf("%.*s/%s", (int)(slash - conf_path), conf_path, value);
		free(value);
	}
	conf_errors_release(&errors);
	free(text);
	return spool;
}

int instance_open_anyway(struct instance *in, const struct command_context *c)
{
	int status = open_instance(in, c, WANTS_TEXT);

	if (status == 0 || !(in->spool = guess_spool(c->conf_path)))
		return status;
	open_run(in);
	return 0;
}

void instance_close(struct instance *in)
{
	if (in->run_fd >= 0)
		close(in->run_fd);
	in->run_fd = -1;
	free(in->spool);
	in->spool = NULL;
	conf_free(&in->conf);
}

static pid_t read_pid(int fd)
{
	char text[24];
	ssize_t got = pread(fd, text, sizeof(text) - 1, 0);
	uint64_t pid;

	if (got <= 0)
		return 0;
	text[got] = '\0';
	return text_parse_u64((struct slice){ text, strcspn(text, "\n") }, &pid) ? (pid_t)pid : 0;
}

pid_t instance_master(const struct instance *in)
{
	struct flock held = { .l_type = F_RDLCK, .l_whence = SEEK_SET }; /* would one be granted? */
	pid_t pid = 0;
	int fd;

	if (in->run_fd < 0 || (fd = openat(in->run_fd, "master.pid", O_RDONLY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return 0;
	if (fcntl(fd, F_OFD_GETLK, &held) == 0 && held.l_type != F_UNLCK)
		pid = read_pid(fd);
	close(fd);
	return pid;
}

json_t *instance_status(const struct instance *in)
{
	json_t *status;
	int fd;

	if (in->run_fd < 0 || (fd = openat(in->run_fd, "status.json", O_RDONLY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return NULL;
	status = json_loadfd(fd, 0, NULL);
	close(fd);
	return status;
}
