/* secrets.c - records INDEX NUL NAME NUL VALUE NUL. */
#include "smtpout/secrets.h"
#include "lib/fd.h"
#include "lib/text.h"
#include <errno.h>
#include <unistd.h>

enum { SECRETS_MAX = 4 << 20 };

/* Cuts the next NUL-ended text off the front of *rest. */
static bool next_text(struct slice *rest, struct slice *out)
{
	const char *end = memchr(rest->ptr, '\0', rest->len);

	if (!end)
		return false;
	*out = (struct slice){ rest->ptr, (size_t)(end - rest->ptr) };
	*rest = (struct slice){ end + 1, rest->len - out->len - 1 };
	return true;
}

static bool take_records(struct slice rest, secrets_cb fn, void *arg)
{
	while (rest.len > 0) {
		struct slice index, name, value;
		uint64_t number;

		if (!next_text(&rest, &index) || !next_text(&rest, &name) || !next_text(&rest, &value) ||
		    !text_parse_u64(index, &number) || number > UINT16_MAX) {
			errno = EBADMSG;
			return false;
		}
		fn(arg, (unsigned)number, name, value);
	}
	return true;
}

bool secrets_read(int fd, secrets_cb fn, void *arg)
{
	struct buf bytes;
	bool is_right;
	int saved;

	buf_init(&bytes, SECRETS_MAX);
	is_right = fd_read_all(fd, &bytes) && (bytes.len == 0 || take_records(buf_slice(&bytes), fn, arg));
	saved = errno;
	if (bytes.ptr)
		explicit_bzero(bytes.ptr, bytes.cap);
	buf_release(&bytes);
	errno = saved;
	return is_right;
}
