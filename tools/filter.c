/* filter.c - arguments to the object that the scheduler understands. */
#include "tools/filter.h"
#include "lib/spool.h"
#include "lib/text.h"
#include <getopt.h>

static int add_older(json_t *object, const char *command, const char *text)
{
	uint64_t ms;

	if (!text_parse_duration(slice_of(text), &ms)) {
		command_complain("%s: --older: \"%s\" is not a duration like 2h or 5d", command, text);
		return EXIT_STATUS_USAGE;
	}
	json_object_set_new(object, "older_s", json_integer((json_int_t)(ms / 1000)));
	return 0;
}

static int add_text(json_t *object, const char *command, const char *name, const char *text)
{
	json_t *value = json_string(text);

	if (!value || !*text) {
		command_complain("%s: --%s: not a text that an address could match", command, name);
		return EXIT_STATUS_USAGE;
	}
	json_object_set_new(object, name, value);
	return 0;
}

static int add_ids(json_t *object, const char *command, int count, char **ids)
{
	json_t *list = json_array();

	json_object_set_new(object, "ids", list);
	for (int i = 0; i < count; i++) {
		uint64_t id;

		if (!spool_id_parse(slice_of(ids[i]), &id)) {
			command_complain("%s: \"%s\" is not a message's id", command, ids[i]);
			return EXIT_STATUS_USAGE;
		}
		json_array_append_new(list, json_string(ids[i]));
	}
	return 0;
}

static int add_option(struct filter *f, const char *command, int which, const char *name)
{
	switch (which) {
	case 'j':
		f->is_json = true;
		return 0;
	case 'a':
		json_object_set_new(f->object, "all", json_true());
		return 0;
	case 'o':
		return add_older(f->object, command, optarg);
	case 't':
		return add_text(f->object, command, name, optarg);
	default:
		return EXIT_STATUS_USAGE;
	}
}

int filter_parse(struct filter *f, const char *command, int argc, char **argv, bool may_json)
{
	static const struct option OPTIONS[] = {
		{ "all", no_argument, NULL, 'a' },          { "older", required_argument, NULL, 'o' },
		{ "sender", required_argument, NULL, 't' }, { "recipient", required_argument, NULL, 't' },
		{ "domain", required_argument, NULL, 't' }, { "server", required_argument, NULL, 't' },
		{ "json", no_argument, NULL, 'j' },         { NULL, 0, NULL, 0 },
	};
	int which, at = 0, status = 0;

	*f = (struct filter){ .object = json_object() };
	while (status == 0 && (which = getopt_long(argc, argv, "", OPTIONS, &at)) != -1)
		status = add_option(f, command, which, which == '?' ? "" : OPTIONS[at].name);
	if (status == 0 && f->is_json && !may_json) {
		command_complain("%s: has no --json", command);
		status = EXIT_STATUS_USAGE;
	}
	if (status == 0 && optind < argc)
		status = add_ids(f->object, command, argc - optind, argv + optind);
	f->is_empty = json_object_size(f->object) == 0;
	if (status != 0) {
		json_decref(f->object);
		f->object = NULL;
	}
	return status;
}
