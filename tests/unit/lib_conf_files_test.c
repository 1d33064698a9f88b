/* lib_conf_files_test.c - the files that postern.conf names; and table, manual page and sample, which say the same. */
#include "tests/unit/conf_from_text.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- what the configuration names --- */

static char folder[] = "/tmp/postern-conf-XXXXXX";

static char *put_file(const char *name, const char *text, mode_t mode)
{
	char *path = xasprintf("%s/%s", folder, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
	return path;
}

static void test_files(void **state UNUSED)
{
	static const struct {
		const char *options, *top;
		const char *want; /* within the one mistake, or NULL: none */
	} ROWS[] = {
		{ "username = u password-file = good", "", NULL },
		{ "username = u password-file = none", "", ":3: password-file: %s/none: No such file or directory" },
		{ "username = u password-file = open", "",
		  ":3: password-file: %s/open is open to others (mode 0644); chmod go= %s/open" },
		{ "username = u password-file = empty", "", ":3: password-file: %s/empty is empty" },
		{ "username = u password-file = blank", "", ":3: password-file: %s/blank has an empty first line" },
		{ "username = u password-file = crlf", "",
		  ":3: password-file: %s/crlf has Windows line ends; the password would end in a carriage return" },
		{ "username = u password-file = spool", "", ":3: password-file: %s/spool is not a regular file" },
		{ "tls-ca-file = ca.pem", "", NULL },
		{ "tls-ca-file = good", "", ":3: tls-ca-file: %s/good holds no certificate in PEM form" },
		{ "tls-ca-file = none", "", ":3: tls-ca-file: %s/none: No such file or directory" },
		{ "", "dns { trust-anchor-file = empty }", ":2: trust-anchor-file: %s/empty is empty" },
		{ "", "log = \"no/x.log\"", ":2: log: %s/no/x.log cannot be made: %s/no: No such file or directory" },
		{ "", "log = \"./spool\"", ":2: log: %s/./spool is a directory; name a file in it" },
		{ "limits = { \"5/day calendar 00:00 Mars/Phobos\" }", "",
		  ":3: limits: \"5/day calendar 00:00 Mars/Phobos\": this host knows no time zone \"Mars/Phobos\"" },
	};
	static const struct {
		const char *name, *text;
		mode_t mode;
	} FILES[] = { { "good", "secret\nrest\n", 0600 },
		      { "open", "secret\n", 0644 },
		      { "empty", "", 0600 },
		      { "blank", "\nsecret\n", 0600 },
		      { "crlf", "secret\r\n", 0600 },
		      { "ca.pem", "-----BEGIN CERTIFICATE-----\n", 0644 } };
	char *paths[ARRAY_LEN(FILES)];

	assert_non_null(mkdtemp(folder));
	char *spool = xasprintf("%s/spool", folder);

	assert_int_equal(mkdir(spool, 0755), 0);
	for (unsigned i = 0; i < ARRAY_LEN(FILES); i++)
		paths[i] = put_file(FILES[i].name, FILES[i].text, FILES[i].mode);
	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		char *text = xasprintf("spool = spool user = nobody smtp-user = nobody drop-group = nogroup\n%s\n"
				       "server \"a\" { host = h %s }\n",
				       ROWS[i].top, ROWS[i].options);
		char *path = xasprintf("%s/t.conf", folder);
		struct conf_errors errors;
		struct conf *c = conf_read_text(path, slice_of(text), &errors);

		if (!c)
			fail_msg("%s", errors.text[0]);
		assert_int_equal(conf_check_files(c, &errors), ROWS[i].want == NULL);
		if (ROWS[i].want) {
			struct buf want;

			buf_init(&want, 2000);
			buf_put_str(&want, path);
			for (const char *p = ROWS[i].want; *p; p++)
				if (p[0] == '%' && p[1] == 's')
					buf_put_str(&want, folder), p++;
				else
					buf_put_char(&want, *p);
			assert_int_equal(errors.count, 1);
			assert_string_equal(errors.text[0], buf_text(&want));
			buf_release(&want);
		}
		conf_errors_release(&errors);
		conf_free(&c);
		free(text);
		free(path);
	}
	for (unsigned i = 0; i < ARRAY_LEN(FILES); i++) {
		unlink(paths[i]);
		free(paths[i]);
	}
	rmdir(spool);
	rmdir(folder);
	free(spool);
}

/* --- drift: the table, the manual page and the sample say the same --- */

static char *slurp(const char *path)
{
	struct conf_errors errors;
	size_t len;
	char *text = conf_slurp(path, &len, &errors);

	if (!text)
		fail_msg("%s (run from the top of the tree)", errors.text[0]);
	return text;
}

static bool in_table(const char *name)
{
	for (unsigned i = 0; i < conf_option_count; i++)
		if (strcmp(conf_options[i].name, name) == 0)
			return true;
	for (unsigned i = SECTION_TOP + 1; i < SECTION_COUNT; i++)
		if (strcmp(conf_sections[i].name, name) == 0)
			return true;
	return false;
}

/* The page has a subsection for each section, marked by a comment, and an item for each option in it. */
static void test_manual_page(void **state UNUSED)
{
	char *page = slurp("man/postern.conf.5"), *rest = page, *line;
	bool is_found[256] = { false };
	enum conf_section_id section = SECTION_COUNT;

	while ((line = strsep(&rest, "\n"))) {
		char name[100], fallback[200] = "";

		if (sscanf(line, ".\\\" section %99s", name) == 1) {
			section = strcmp(name, "top") == 0 ? SECTION_TOP : SECTION_COUNT;
			for (unsigned i = SECTION_TOP + 1; i < SECTION_COUNT; i++)
				if (strcmp(conf_sections[i].name, name) == 0)
					section = (enum conf_section_id)i;
			if (section == SECTION_COUNT)
				fail_msg("the page has a section %s", name);
		}
		if (sscanf(line, ".It Ic %99s No = Ar %*s Pq default : %199[^\n]", name, fallback) < 1)
			continue;
		const struct conf_option *o = conf_option_find(section, slice_of(name));

		if (!o) {
			fail_msg("the page has an option %s that the table lacks", name);
			continue;
		}
		is_found[o - conf_options] = true;
		if (*o->fallback && !strstr(fallback, o->fallback) && o->type < TYPE_LIST_FIRST)
			fail_msg("%s: the page says default \"%s\", the table \"%s\"", name, fallback, o->fallback);
	}
	for (unsigned i = 0; i < conf_option_count; i++)
		if (!is_found[i])
			fail_msg("option %s of section \"%s\" is not in man/postern.conf.5", conf_options[i].name,
				 conf_sections[conf_options[i].section].name);
	free(page);
}

/* The sample is right as it stands, and what it shows in comments ("#name = value") exists. */
static void test_sample(void **state UNUSED)
{
	char *text = slurp("conf/postern.conf"), *copy = xstrdup(text), *rest = copy, *line;
	struct conf *c = read_right(text);

	conf_free(&c);
	while ((line = strsep(&rest, "\n"))) {
		char name[100];

		if (sscanf(line, "#%99[a-z-] =", name) == 1 || sscanf(line, "#%*[ ]%99[a-z-] =", name) == 1)
			if (!in_table(name))
				fail_msg("the sample shows an option %s", name);
	}
	free(copy);
	free(text);
}

/* Every row is complete, and every default can be read. */
static void test_table(void **state UNUSED)
{
	for (unsigned i = 0; i < conf_option_count; i++) {
		const struct conf_option *o = &conf_options[i];

		assert_true(strlen(o->name) > 0);
		assert_ptr_equal(conf_option_find(o->section, slice_of(o->name)), o); /* no name twice */
		if (o->type == TYPE_COUNT || o->type == TYPE_SIZE || o->type == TYPE_DURATION ||
		    o->type >= TYPE_LIST_FIRST)
			assert_true(o->max > o->min);
	}
	for (unsigned i = 0; i < conf_preset_count; i++) {
		char *text = xasprintf("server \"p\" { method = %s username = u password = p %s }",
				       conf_presets[i].name, *conf_presets[i].host ? "" : "host = h");
		struct conf *c = read_right(text);

		assert_int_equal(c->server[0].tls, TLS_VERIFY);
		conf_free(&c);
		free(text);
	}
}

/* Mistakes in the text, between options and in what is named are all told at once; guesses about the rest are not. */
static void every_kind_of_mistake_is_told_in_one_go(void **state)
{
	static const char TEXT[] = "colour = red\n"
				   "workers = -3\n"
				   "reply-rules = \"none.conf\"\n"
				   "server \"b\" { method = relay }\n"
				   "server \"c\" { host = h username = u password-file = \"none\" }\n"
				   "server \"d\" { host = h tls-client-cert = \"none.pem\" }\n"
				   "server \"b\" { host = h }\n";
	static const char *const WANT[] = {
		":1: colour: unknown option",         ":2: workers: \"-3\" is not", ":3: reply-rules: ",
		":4: host: server \"b\" needs one",   ":5: password-file: ",        ":6: tls-client-cert: ",
		":7: server: \"b\" is defined twice",
	};
	char dir[] = "/tmp/conf-all-XXXXXX";
	struct conf_errors errors;

	assert_non_null(mkdtemp(dir));
	char *path = xasprintf("%s/t.conf", dir);
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fputs(TEXT, file) < 0, 0);
	assert_int_equal(fclose(file), 0);
	assert_null(conf_read_all(path, -1, &errors));
	for (unsigned i = 0; i < errors.count && i < ARRAY_LEN(WANT); i++)
		if (strncmp(errors.text[i] + strlen(path), WANT[i], strlen(WANT[i])) != 0)
			fail_msg("%s", errors.text[i]);
	assert_int_equal(errors.count, ARRAY_LEN(WANT));
	conf_errors_release(&errors);
	unlink(path);
	rmdir(dir);
	free(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_of_mistake_is_told_in_one_go),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_manual_page),
		cmocka_unit_test(test_sample),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
