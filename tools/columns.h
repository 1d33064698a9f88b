/* columns.h - rows for people: aligned under headings on a terminal, tab-separated without headings in a pipe. */
#ifndef TOOLS_COLUMNS_H
#define TOOLS_COLUMNS_H
#include "lib/base.h"

/* Widths in characters for the terminal; the last column is as long as it likes. Rows are printed as they come. */
struct column {
	const char *heading;
	unsigned width;
	bool is_number; /* aligned right */
};

bool columns_is_terminal(void);
void columns_print_headings(const struct column *columns, unsigned count);
/* What came from outside is made printable. */
void columns_print_row(const struct column *columns, unsigned count, const char *const *cells);
#endif
