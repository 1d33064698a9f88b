/* identity.h - the users and groups of an instance. */
#ifndef MASTER_IDENTITY_H
#define MASTER_IDENTITY_H
#include "lib/conf.h"
#include "lib/msg.h"
#include "lib/spool.h"
#include "master/spawn.h"

/* All (uid_t)-1 when master is not root: the instance runs as whoever started it. */
struct identities {
	bool is_root;
	uid_t user, smtp_user;
	gid_t user_group, smtp_group, drop_group;
};

/* Looks the names up (as root only). False when one does not exist, logged. */
bool identity_find(struct identities *ids, const struct conf *c) MUST_CHECK;
struct spawn_identity identity_of(const struct identities *ids, enum proc_role role);
struct spool_owners identity_owners(const struct identities *ids);
#endif
