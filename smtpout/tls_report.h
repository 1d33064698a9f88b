/* tls_report.h - what a server showed in its TLS handshake, in words for people. */
#ifndef SMTPOUT_TLS_REPORT_H
#define SMTPOUT_TLS_REPORT_H
#include "smtpout/tls.h"

/*
 * One printable line each, appended: the chain that was sent; whether it was believed and why; and until when it holds,
 * with its SHA-256 fingerprint. Where nothing had to be proved, the policy `judge` (may be NULL) says whether
 * `tls = verify` would take it. After a handshake that succeeded; "no certificate" when there was none.
 */
void tls_report_chain(const struct tls_conn *c, struct buf *out);
void tls_report_trust(const struct tls_conn *c, struct tls_policy *judge, struct buf *out);
void tls_report_expiry(const struct tls_conn *c, struct buf *out);
#endif
