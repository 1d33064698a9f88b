/* secrets.h - notices when a file with a password changes: workers get the new one, and its server is tried at once. */
#ifndef MASTER_SECRETS_H
#define MASTER_SECRETS_H
#include "master/supervisor.h"

struct secrets;

/* Watches the folders of the files that the configuration names. What cannot be watched is logged: then a reload helps.
 */
struct secrets *secrets_new(struct master *m);
void secrets_free(struct secrets **s);
/* The configuration was read again, or is new: other files, other folders. Whoever is told has been started anew. */
void secrets_follow(struct secrets *s);
#endif
