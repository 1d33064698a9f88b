/* Eight-bit content as quoted-printable: part by part, the rest byte for byte, whatever the pieces. */
#include "smtpout/downgrade.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka last: it needs setjmp.h and others above */
#include <cmocka.h>

#define QP   "Content-Transfer-Encoding: quoted-printable\r\n"
#define MIX  "MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n\tboundary=\"a b\" (x)\r\n"
#define TEXT "Content-Type: text/plain; charset=iso-8859-1\r\n"

static const struct {
	const char *name, *in, *out; /* out NULL: as it is */
} VECTORS[] = {
	{ "nothing", "", NULL },
	{ "ASCII", "Subject: x\r\n\r\nhello = \r\n", NULL },
	{ "eight bits in a header only", "Subject: \xc3\xa4\r\n\r\nhello\r\n", NULL },
	{ "no MIME header, UTF-8", "Subject: x\r\n\r\n\xc3\xa4=b \r\n.\t\r\n",
	  "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n" QP
	  "\r\n=C3=A4=3Db=20\r\n.=09\r\n" },
	{ "no MIME header, not UTF-8", "Subject: x\r\n\r\n\xe4\r\n",
	  "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n" QP "\r\n=E4\r\n" },
	{ "the label is replaced",
	  "MIME-Version: 1.0\r\n" TEXT "Content-Transfer-Encoding:\r\n 8bit\r\nSubject: x\r\n\r\n\xe4\r\n",
	  "MIME-Version: 1.0\r\n" TEXT "Subject: x\r\n" QP "\r\n=E4\r\n" },
	{ "8bit without eight bits stays", "Content-Transfer-Encoding: 8bit\r\n\r\nascii\r\n", NULL },
	{ "encoded already", "Content-Transfer-Encoding: base64\r\n\r\n5A==\r\n", NULL },
	{ "a long line is cut, and no code in two",
	  "\r\n\xe4"
	  "1234567890123456789012345678901234567890123456789012345678901234567890=x\r\n",
	  "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n" QP
	  "\r\n=E41234567890123456789012345678901234567890123456789012345678901234567890=\r\n=3Dx\r\n" },
	{ "no line end", "\r\n\xe4 ",
	  "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n" QP "\r\n=E4=20" },
	{ "only the part that needs it",
	  MIX "\r\npreamble\r\n--a b\r\n" TEXT "\r\n\xe4\r\n--a b\r\n\r\nascii = \r\n--a b--\r\nepilogue\r\n",
	  MIX "\r\npreamble\r\n--a b\r\n" TEXT QP "\r\n=E4\r\n--a b\r\n\r\nascii = \r\n--a b--\r\nepilogue\r\n" },
	{ "containers are labelled 7bit",
	  "Content-Transfer-Encoding: 8bit\r\n" MIX "\r\n--a b\r\n\r\n\xe4\r\n--a b--\r\n",
	  MIX "Content-Transfer-Encoding: 7bit\r\n\r\n--a b\r\n" QP "\r\n=E4\r\n--a b--\r\n" },
	{ "parts within parts; the inner boundary begins like the outer",
	  MIX "\r\n--a b\r\nContent-Type: multipart/signed; boundary=\"a bc\"\r\n\r\n--a bc\r\n\r\nx\r\n--a bc--\r\n"
	      "--a b\r\n\r\n\xe4\r\n--a b--\r\n",
	  MIX "\r\n--a b\r\nContent-Type: multipart/signed; boundary=\"a bc\"\r\n\r\n--a bc\r\n\r\nx\r\n--a bc--\r\n"
	      "--a b\r\n" QP "\r\n=E4\r\n--a b--\r\n" },
	{ "a message within the message", "Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n" TEXT "\r\n\xe4\r\n",
	  "Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n" TEXT QP "\r\n=E4\r\n" },
	{ "a digest's parts are messages",
	  "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\n\xe4\r\n--b--\r\n",
	  "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n" QP "\r\n=E4\r\n--b--\r\n" },
	{ "a multipart without boundary is a text", "Content-Type: multipart/mixed\r\n\r\n\xe4\r\n",
	  "Content-Type: multipart/mixed\r\nMIME-Version: 1.0\r\n" QP "\r\n=E4\r\n" },
	{ "a part whose header ends in a boundary", MIX "\r\n--a b\r\nSubject: \xe4\r\n--a b--\r\n", NULL },
	{ "a blank before the colon",
	  MIX "\r\n--a b\r\nContent-Type : text/plain; charset=iso-8859-1\r\nX: y\r\n\r\n\xe4\r\n--a b--\r\n",
	  MIX "\r\n--a b\r\nContent-Type : text/plain; charset=iso-8859-1\r\nX: y\r\n" QP "\r\n=E4\r\n--a b--\r\n" },
	{ "a part that begins with a blank has no header", MIX "\r\n--a b\r\n \xe4\r\nx\r\n--a b--\r\n",
	  MIX "\r\n--a b\r\n" QP "\r\n =E4\r\nx\r\n--a b--\r\n" },
	{ "a header that no empty line ends", "Subject: x\r\n\xe4 y\r\n",
	  "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n" QP "\r\n=E4 y\r\n" },
};

static void feed(struct downgrade *d, const char *in, size_t piece, struct buf *out)
{
	for (size_t at = 0, len = strlen(in); at < len; at += piece) {
		struct slice s = { in + at, len - at < piece ? len - at : piece };

		if (out)
			downgrade_put(d, s, out);
		else
			downgrade_look(d, s);
	}
}

static void convert(const char *in, size_t piece, struct buf *out)
{
	struct downgrade *d = downgrade_new();

	buf_init(out, 1 << 20);
	feed(d, in, piece, NULL);
	downgrade_turn(d);
	feed(d, in, piece, out);
	downgrade_end(d, out);
	downgrade_free(&d);
}

static void test_vectors(void **state UNUSED)
{
	static const size_t PIECES[] = { 1, 2, 3, 7, 65536 };

	for (unsigned i = 0; i < ARRAY_LEN(VECTORS); i++) {
		for (unsigned k = 0; k < ARRAY_LEN(PIECES); k++) {
			const char *want = VECTORS[i].out ? VECTORS[i].out : VECTORS[i].in;
			struct buf out;

			convert(VECTORS[i].in, PIECES[k], &out);
			if (strcmp(buf_text(&out), want) != 0)
				fail_msg("%s, in pieces of %zu: \"%s\"", VECTORS[i].name, PIECES[k], buf_text(&out));
			buf_release(&out);
		}
	}
}

/* More levels than are followed: what is below goes as it is, in bounded memory. */
static void test_too_deep(void **state UNUSED)
{
	struct buf in, out;

	buf_init(&in, 1 << 20);
	for (unsigned i = 0; i < 3 * DOWNGRADE_DEPTH_MAX; i++)
		buf_printf(&in, "Content-Type: multipart/mixed; boundary=b%03u\r\n\r\n--b%03u\r\n", i, i);
	buf_put_str(&in, "\r\n\xe4\r\n");
	convert(buf_text(&in), 1000, &out);
	assert_string_equal(buf_text(&out), buf_text(&in));
	buf_release(&in);
	buf_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_vectors), cmocka_unit_test(test_too_deep) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
