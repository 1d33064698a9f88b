/* json.h - the only user of jansson: reading; and a plain writer onto a struct buf for hot paths. */
#ifndef LIB_JSON_H
#define LIB_JSON_H
#include "lib/buf.h"
#include <jansson.h>

/* Writer: appends to a buf. Object and array punctuation is the caller's; strings are escaped, invalid UTF-8 replaced.
 */
void json_put_string(struct buf *out, struct slice text);                   /* "..." with quotes */
void json_put_key(struct buf *out, const char *key);                        /* ,"key": (no comma after { or [) */
void json_put_member(struct buf *out, const char *key, struct slice text);  /* ,"key":"text" */
void json_put_member_u64(struct buf *out, const char *key, uint64_t value); /* ,"key":123 */
void json_put_member_bool(struct buf *out, const char *key, bool value);
#endif
