/* identity.c - names of users and groups to numbers. */
#include "master/identity.h"
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

static bool find_user(const char *name, uid_t *uid, gid_t *gid)
{
	const struct passwd *entry = getpwnam(name);

	if (!entry || entry->pw_uid == 0 || entry->pw_gid == 0) {
		log_error(entry ? "user \"%s\" is root or of its group: privileges cannot be given up that way"
				: "there is no user \"%s\": create it, or name another in the configuration",
			  name);
		return false;
	}
	*uid = entry->pw_uid;
	*gid = entry->pw_gid;
	return true;
}

static bool find_group(const char *name, gid_t *gid)
{
	const struct group *entry = getgrnam(name);

	if (!entry) {
		log_error("there is no group \"%s\": create it, or name another as drop-group", name);
		return false;
	}
	*gid = entry->gr_gid;
	return true;
}

bool identity_find(struct identities *ids, const struct conf *c)
{
	*ids = (struct identities){ geteuid() == 0, (uid_t)-1, (uid_t)-1, (gid_t)-1, (gid_t)-1, (gid_t)-1 };
	if (!ids->is_root)
		return true;
	return find_user(c->user, &ids->user, &ids->user_group) &&
	       find_user(c->smtp_user, &ids->smtp_user, &ids->smtp_group) &&
	       find_group(c->drop_group, &ids->drop_group);
}

struct spawn_identity identity_of(const struct identities *ids, enum proc_role role)
{
	switch (role) {
	case ROLE_RESOLVER:
	case ROLE_SMTPOUT:
		return (struct spawn_identity){ ids->smtp_user, ids->smtp_group, (gid_t)-1 };
	case ROLE_PICKUP:
		return (struct spawn_identity){ ids->user, ids->user_group, ids->drop_group };
	default:
		return (struct spawn_identity){ ids->user, ids->user_group, (gid_t)-1 };
	}
}

struct spool_owners identity_owners(const struct identities *ids)
{
	return (struct spool_owners){ ids->user, ids->user_group, ids->drop_group, ids->smtp_group };
}
