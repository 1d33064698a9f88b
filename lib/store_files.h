/* store_files.h - private to lib/store: marker, lock and ballast beside Berkeley DB's files.
 *
 * records.db and log.* are Berkeley DB's. store.mark says which environment this is, store.high how far the log was
 * known to be durable, ballast is room kept for recovery. The lock is a flock on the directory itself.
 */
#ifndef LIB_STORE_FILES_H
#define LIB_STORE_FILES_H
#include "lib/store.h"

#define STORE_RECORDS_FILE "records.db"
#define STORE_MARK_FILE    "store.mark"
#define STORE_HIGH_FILE    "store.high"

enum { STORE_ID_LEN = 32 }; /* the environment's name: 16 random bytes in hexadecimal */

/* The directory, locked, or -1 with errno; EWOULDBLOCK: another process holds it. Closing it unlocks. */
int store_dir_lock(const char *dir) MUST_CHECK;
/*
 * OPENED: all is there, id is the name the marker gives. CREATED: nothing is, or what an unfinished creation left was
 * removed. DAMAGED: *why says in words. FAILED: errno, and perhaps *why; that we may not open a file was logged then.
 */
enum store_open_result store_files_check(int dir_fd, char id[STORE_ID_LEN + 1], const char **why) MUST_CHECK;
void store_id_make(char id[STORE_ID_LEN + 1]);
/* state: "creating" while a new environment is being made, then "ready". Durable before it returns 0; -1 with errno. */
int store_mark_write(int dir_fd, const char *state, const char *id) MUST_CHECK;
/* Berkeley DB would obey a file DB_CONFIG in the directory: it is renamed, and the log says so. 0 or -1 with errno. */
int store_library_settings_disable(int dir_fd) MUST_CHECK;
/* Recovery writes data pages; on a full disk it fails and the environment cannot be opened at all. */
void store_ballast_free_if_needed(int dir_fd, uint64_t bytes);
/* Only when as much again stays free: it must not itself fill the disk. False: not now. */
bool store_ballast_make(int dir_fd, uint64_t bytes);
#endif
