/* idn.h - internationalised domain names; the only user of libidn2; pure.  RFC 5890, 5891, UTS 46 */
#ifndef LIB_IDN_H
#define LIB_IDN_H
#include "lib/buf.h"

/*
 * Appends the form of `domain` that DNS and SMTP without SMTPUTF8 understand: A-labels, lower case, no trailing dot.
 * False, with `out` untouched, when it is no domain name: empty, a label of 0 or more than 63 bytes, more than 253
 * bytes in all, a byte other than letters, digits, '-' and '_', an all-numeric last label (an address without its
 * brackets), or U-labels that IDNA 2008 does not allow. Address literals ("[192.0.2.1]") are not domain names.
 */
bool idn_to_ascii(struct buf *out, struct slice domain) MUST_CHECK;
#endif
