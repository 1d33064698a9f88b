/* columns.c - printing rows. */
#include "tools/columns.h"
#include "lib/text.h"
#include <unistd.h>

enum { CELL_MAX = 2000 };

bool columns_is_terminal(void)
{
	static int known = -1; /* asked once: a jail may forbid the question later */

	if (known < 0)
		known = isatty(STDOUT_FILENO) == 1;
	return known == 1;
}

static size_t character_count(const char *text)
{
	size_t count = 0;

	for (; *text; text++)
		count += ((unsigned char)*text & 0xc0) != 0x80;
	return count;
}

static void pad(size_t count)
{
	for (; count > 0; count--)
		putchar(' ');
}

static void print_aligned(const struct column *column, bool is_last, const char *text)
{
	size_t len = character_count(text), blanks = len < column->width ? column->width - len : 0;

	if (column->is_number)
		pad(blanks);
	fputs(text, stdout);
	if (!column->is_number && !is_last)
		pad(blanks);
	fputs(is_last ? "\n" : "  ", stdout);
}

void columns_print_headings(const struct column *columns, unsigned count)
{
	for (unsigned i = 0; columns_is_terminal() && i < count; i++)
		print_aligned(&columns[i], i + 1 == count, columns[i].heading);
}

void columns_print_row(const struct column *columns, unsigned count, const char *const *cells)
{
	bool is_terminal = columns_is_terminal();
	struct buf text;

	buf_init(&text, CELL_MAX + 16);
	for (unsigned i = 0; i < count; i++) {
		buf_clear(&text);
		text_escape(&text, slice_of(cells[i]), CELL_MAX);
		if (is_terminal)
			print_aligned(&columns[i], i + 1 == count, buf_text(&text));
		else
			printf("%s%c", buf_text(&text), i + 1 == count ? '\n' : '\t');
	}
	buf_release(&text);
}
