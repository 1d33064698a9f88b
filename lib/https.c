/* https.c - see https.h. */
#include "lib/https.h"
#include "lib/conf.h"
#include "lib/fd.h"
#include <curl/curl.h>
#include <fcntl.h>
#include <strings.h>
#include <unistd.h>

enum { AUTHORITIES_MAX = 16 << 20, HEADERS_MAX = 64 << 10, POLL_MS = 1000 };

struct https {
	CURLM *multi; /* made before the jail: curl wants descriptors for it that are refused there */
	CURL *easy;
	struct buf authorities;
	/* of the request under way */
	struct buf *answer;
	size_t answer_max, header_bytes;
	bool is_too_large;
};

static bool read_file(const char *path, struct buf *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	bool is_read = fd >= 0 && fd_read_all(fd, out);

	if (fd >= 0)
		close(fd);
	return is_read && out->len > 0;
}

static bool load_authorities(struct https *h)
{
	const char *path = conf_system_certificates();

	return path && read_file(path, &h->authorities);
}

struct https *https_new(const char **why)
{
	struct https *h = xcalloc(1, sizeof(*h));

	buf_init(&h->authorities, AUTHORITIES_MAX);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0 || !(h->multi = curl_multi_init()) ||
	    !(h->easy = curl_easy_init()))
		*why = "libcurl does not work";
	else if (load_authorities(h))
		return h;
	else
		*why = "the system has no certificates to trust; install ca-certificates";
	https_free(&h);
	return NULL;
}

void https_free(struct https **https)
{
	struct https *h = *https;

	if (!h)
		return;
	if (h->easy)
		curl_easy_cleanup(h->easy);
	if (h->multi)
		(void)curl_multi_cleanup(h->multi);
	buf_release(&h->authorities);
	free(h);
	*https = NULL;
	curl_global_cleanup();
}

bool https_place(const char *url, struct https_place *out)
{
	CURLU *u = curl_url();
	char *scheme = NULL, *host = NULL, *port = NULL;
	bool is_right = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
			curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
			curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
			curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK;

	*out = (struct https_place){ .port = 0 };
	if (is_right) {
		size_t len = strlen(host);
		bool is_bracketed = len > 2 && host[0] == '[' && host[len - 1] == ']';

		out->is_clear = strcmp(scheme, "http") == 0;
		out->port = (unsigned)strtoul(port, NULL, 10);
		is_right = out->is_clear || strcmp(scheme, "https") == 0;
		is_right &= (size_t)snprintf(out->host, sizeof(out->host), "%.*s", (int)(len - 2 * is_bracketed),
					     host + is_bracketed) < sizeof(out->host);
	}
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(u);
	return is_right;
}

static size_t on_header(char *bytes UNUSED, size_t size, size_t count, void *arg)
{
	struct https *h = arg;

	h->header_bytes += size * count;
	h->is_too_large |= h->header_bytes > HEADERS_MAX;
	return h->is_too_large ? 0 : size * count;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *arg)
{
	struct https *h = arg;

	h->is_too_large |= size * count > h->answer_max - h->answer->len;
	if (!h->is_too_large)
		buf_put(h->answer, bytes, size * count);
	return h->is_too_large ? 0 : size * count;
}

static bool is_loopback(const struct host_address *a)
{
	static const uint8_t ONE[16] = { [15] = 1 };

	return a->family == AF_INET ? a->bytes[0] == 127 : memcmp(a->bytes, ONE, sizeof(ONE)) == 0;
}

/* "HOST:PORT:ADDRESS,ADDRESS": what curl would otherwise look up. NULL: an address that clear text must not go to. */
static struct curl_slist *pin_addresses(const struct https_place *place, const struct host *resolved)
{
	struct curl_slist *list;
	struct buf text;

	buf_init(&text, 4096);
	buf_printf(&text, "%s:%u:", place->host, place->port);
	for (unsigned i = 0; i < resolved->address_count; i++) {
		const struct host_address *a = &resolved->address[i];

		if (place->is_clear && !is_loopback(a)) {
			buf_release(&text);
			return NULL;
		}
		buf_put_str(&text, i ? "," : "");
		buf_put_str(&text, a->family == AF_INET6 ? "[" : "");
		host_address_format(&text, a);
		buf_put_str(&text, a->family == AF_INET6 ? "]" : "");
	}
	list = curl_slist_append(NULL, buf_text(&text));
	buf_release(&text);
	return list;
}

#define SET(h, option, value) (curl_easy_setopt((h)->easy, option, value) == CURLE_OK)

static bool set_up(struct https *h, const struct https_question *q, bool is_clear, struct curl_slist *pinned,
		   struct curl_slist *headers)
{
	struct curl_blob authorities = { h->authorities.ptr, h->authorities.len, CURL_BLOB_NOCOPY };

	return SET(h, CURLOPT_URL, q->url) && SET(h, CURLOPT_RESOLVE, pinned) && SET(h, CURLOPT_PROXY, "") &&
	       SET(h, CURLOPT_PROTOCOLS_STR, is_clear ? "http" : "https") && SET(h, CURLOPT_FOLLOWLOCATION, 0L) &&
	       SET(h, CURLOPT_SSL_VERIFYPEER, 1L) && SET(h, CURLOPT_SSL_VERIFYHOST, 2L) &&
	       SET(h, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) && SET(h, CURLOPT_CAINFO_BLOB, &authorities) &&
	       SET(h, CURLOPT_CAPATH, NULL) && SET(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) &&
	       (!q->form.ptr || (SET(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->form.len) &&
				 SET(h, CURLOPT_POSTFIELDS, q->form.ptr))) &&
	       SET(h, CURLOPT_HTTPHEADER, headers) && SET(h, CURLOPT_USERAGENT, "Postern/" POSTERN_VERSION) &&
	       SET(h, CURLOPT_NOSIGNAL, 1L) && SET(h, CURLOPT_TIMEOUT_MS, (long)q->deadline_ms) &&
	       SET(h, CURLOPT_HEADERFUNCTION, on_header) && SET(h, CURLOPT_HEADERDATA, h) &&
	       SET(h, CURLOPT_WRITEFUNCTION, on_body) && SET(h, CURLOPT_WRITEDATA, h) &&
	       curl_multi_add_handle(h->multi, h->easy) == CURLM_OK;
}

static CURLcode perform(struct https *h)
{
	CURLMcode rc = CURLM_OK;
	CURLMsg *message;
	int running = 1, left;

	while (running && rc == CURLM_OK) {
		rc = curl_multi_perform(h->multi, &running);
		if (rc == CURLM_OK && running)
			rc = curl_multi_poll(h->multi, NULL, 0, POLL_MS, NULL);
	}
	message = curl_multi_info_read(h->multi, &left);
	return message && message->msg == CURLMSG_DONE ? message->data.result : CURLE_FAILED_INIT;
}

/* What curl says, and in which words we would: those about certificates are the ones that people act on. */
static char *describe(const struct https *h, CURLcode code, const char *detail)
{
	if (h->is_too_large)
		return xstrdup("its answer is too large");
	if (code == CURLE_PEER_FAILED_VERIFICATION)
		return xasprintf("its certificate is not trusted: %s", detail);
	return xstrdup(*detail ? detail : curl_easy_strerror(code));
}

static struct curl_slist *accept_header(const struct https_question *q)
{
	char *text = xasprintf("Accept: %s", q->media_type);
	struct curl_slist *list = curl_slist_append(NULL, text);

	free(text);
	return list;
}

/* Parameters behind the type, such as a charset, do not matter. */
static bool is_of_type(const struct https *h, const char *wanted)
{
	size_t len = strlen(wanted);
	char *type = NULL;

	return curl_easy_getinfo(h->easy, CURLINFO_CONTENT_TYPE, &type) == CURLE_OK && type &&
	       strncasecmp(type, wanted, len) == 0 && (type[len] == '\0' || strchr("; \t", type[len]));
}

bool https_send(struct https *h, const struct https_question *q, unsigned *status, struct buf *answer, char **why)
{
	char detail[CURL_ERROR_SIZE] = "";
	struct https_place place;
	struct curl_slist *pinned = https_place(q->url, &place) ? pin_addresses(&place, q->resolved) : NULL;
	struct curl_slist *headers = accept_header(q);
	CURLcode code = CURLE_FAILED_INIT;
	long response = 0;

	h->answer = answer;
	h->answer_max = answer->len + q->answer_max;
	h->header_bytes = 0;
	h->is_too_large = false;
	if (!pinned) {
		*why = xstrdup("it is not on this host, and the URL is not https");
	} else {
		if (SET(h, CURLOPT_ERRORBUFFER, detail) && set_up(h, q, place.is_clear, pinned, headers))
			code = perform(h);
		if (code == CURLE_OK)
			(void)curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &response);
		else
			*why = describe(h, code, detail);
		if (q->is_strict && code == CURLE_OK && response == 200 && !is_of_type(h, q->media_type)) {
			*why = xasprintf("its answer is not %s", q->media_type);
			code = CURLE_WEIRD_SERVER_REPLY;
		}
		(void)curl_multi_remove_handle(h->multi, h->easy);
		curl_easy_reset(h->easy);
	}
	curl_slist_free_all(pinned);
	curl_slist_free_all(headers);
	*status = (unsigned)response;
	return code == CURLE_OK;
}
