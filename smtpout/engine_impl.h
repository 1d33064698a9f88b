/* engine_impl.h - what engine.c and engine_states.c share; nobody else includes it. */
#ifndef SMTPOUT_ENGINE_IMPL_H
#define SMTPOUT_ENGINE_IMPL_H
#include "smtpout/engine.h"

struct engine_step_def {
	const char *name;     /* "(in reply to NAME command)" */
	const char *progress; /* "lost connection while PROGRESS" */
	void (*on_reply)(struct engine *e, const struct reply *r);
	enum engine_wait wait;
	const char *rfc;
};

extern const struct engine_step_def ENGINE_STEPS[STEP_COUNT];

void engine_set_state(struct engine *e, enum engine_state state);
/* Puts a command into engine->out and what it is owed into the FIFO. */
void engine_command(struct engine *e, enum engine_step step, const char *format, ...) PRINTF_LIKE(3, 4);
/* The mail whose replies come in is over: hand it back, the next moves up. */
void engine_mail_over(struct engine *e, unsigned index);
/* Ends the session. The outcome's text is copied. */
void engine_end(struct engine *e, enum failure_cause cause, unsigned code, const char *dsn, const char *text);
/* The same with a QUIT: the server is sound, but will not do. */
void engine_end_politely(struct engine *e, enum failure_cause cause, unsigned code, const char *dsn, const char *text);
/* Ends it because of a reply that cannot be: nothing bounces, what hangs behind the dot is unknown. */
void engine_end_protocol(struct engine *e, enum engine_step step, const struct reply *r, const char *why);
/* Verdict of a 4yz or 5yz reply for all recipients of the mail without outcome. */
void engine_settle_reply(struct engine *e, struct engine_mail *m, enum engine_step step, const struct reply *r);
uint8_t engine_reply_outcome(struct engine *e, struct engine_mail *m, enum engine_step step, const struct reply *r);
/* "host PEER said: 550 text (in reply to STEP command)"; caller frees */
char *engine_said(const struct engine *e, enum engine_step step, const struct reply *r);
const char *engine_reply_dsn(const struct reply *r); /* the server's, or X.0.0 */
/* What this server cannot take is settled here and not sent. True: it can go. */
bool engine_check_mail(struct engine *e, struct engine_mail *m);
void engine_send_envelope(struct engine *e, struct engine_mail *m);
void engine_send_rcpt(struct engine *e, struct engine_mail *m);
void engine_send_data(struct engine *e);
void engine_send_hello(struct engine *e);
#endif
