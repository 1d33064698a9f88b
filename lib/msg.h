/* msg.h - messages between processes, made from lib/msg.def: structs, encoders, decoders, names. */
#ifndef LIB_MSG_H
#define LIB_MSG_H
#include "lib/base.h"
#include "lib/msg.def"

/* One packet is one message: PIPE_BUF bytes are written and read atomically on an O_DIRECT pipe. */
enum { MSG_PACKET_MAX = 4096, MSG_HEAD_BYTES = 20 };

enum proc_role { ROLE_MASTER, ROLE_PICKUP, ROLE_SCHEDULER, ROLE_RESOLVER, ROLE_LIMITER, ROLE_SMTPOUT, ROLE_COUNT };

const char *role_name(enum proc_role role); /* "pickup" and so on */

enum msg_type {
#define MSG_ENUM(id, NAME, name, from, to, purpose) MSG_##NAME = (id),
	MSG_LIST(MSG_ENUM)
#undef MSG_ENUM
};

/* PEER: what became of a partner. */
enum peer_life {
	PEER_DEAD,  /* a successor will be announced */
	PEER_ALIVE, /* talk to this generation */
	PEER_ENDING /* still answers for what it has, takes nothing new */
};

/* What a resolver is asked, and answers. */
enum resolve_kind { RESOLVE_MX = 1, RESOLVE_HOST = 2 };
enum resolve_status {
	RESOLVE_OK = 1,
	RESOLVE_TEMPORARY, /* no answer, SERVFAIL, bogus: defer */
	RESOLVE_NO_DOMAIN, /* NXDOMAIN, or neither MX nor address: permanent */
	RESOLVE_NULL_MX,   /* RFC 7505: permanent, 5.1.10 */
	RESOLVE_DENIED,    /* every address is in deny-addresses: permanent, 5.4.6 */
	RESOLVE_POLICY     /* the domain's MTA-STS policy allows none of its hosts: defer, 4.7.5 */
};

/* Where a session or a transaction failed. */
enum failure_cause {
	FAILURE_NONE,
	FAILURE_DNS,
	FAILURE_CONNECT, /* refused, unreachable, timed out */
	FAILURE_TLS,
	FAILURE_AUTH,
	FAILURE_GREETING,   /* banner or EHLO refused */
	FAILURE_REPLY,      /* a well-formed 4xx or 5xx to MAIL, RCPT, DATA or the final dot */
	FAILURE_PROTOCOL,   /* nonsense from the server */
	FAILURE_LOST,       /* connection lost or timed out before the final dot was sent */
	FAILURE_UNKNOWN,    /* lost between the final dot and its reply: may have been delivered */
	FAILURE_CAPABILITY, /* needs an extension that the server lacks */
	FAILURE_LOCAL       /* our side: queue file unreadable, out of descriptors */
};

enum verdict {
	VERDICT_DELIVERED = 1,
	VERDICT_TEMPORARY, /* 4xx, or anything odd */
	VERDICT_PERMANENT, /* a complete, well-formed, correctly paired 5yz */
	VERDICT_UNKNOWN,   /* FAILURE_UNKNOWN */
	VERDICT_UNSENT     /* handed back untouched: not an attempt */
};

/* What the scheduler made of a report: how smtpout logs it. */
enum disposition {
	DISPOSITION_SENT = 1,
	DISPOSITION_DEFERRED,
	DISPOSITION_BOUNCED,
	DISPOSITION_PASSED_ON, /* goes to the next server in the same attempt: not logged as an outcome */
	DISPOSITION_IGNORED,   /* stale, or handed back */
	DISPOSITION_AGAIN      /* the connection or the server was to blame: goes again at once, no attempt was made */
};

/* Vectors are views into the packet; read elements with msg_u32/msg_u64. */
struct msg_u32v {
	const uint8_t *ptr; /* decoding: big-endian elements, unaligned. encoding: see values */
	const uint32_t *values;
	uint16_t count;
};

struct msg_u64v {
	const uint8_t *ptr;
	const uint64_t *values;
	uint16_t count;
};

uint32_t msg_u32(const struct msg_u32v *v, unsigned index); /* decoded or not; index < count */
uint64_t msg_u64(const struct msg_u64v *v, unsigned index);

typedef uint8_t msg_type_u8;
typedef uint16_t msg_type_u16;
typedef uint32_t msg_type_u32;
typedef uint64_t msg_type_u64;
typedef struct slice msg_type_str;
typedef struct slice msg_type_bytes;
typedef struct msg_u32v msg_type_u32v;
typedef struct msg_u64v msg_type_u64v;

/* struct msg_deliver { uint32_t session; ... }: one per message; slices and vectors are borrowed. */
#define MSG_STRUCT_FIELD(type, name, max) msg_type_##type name;
#define MSG_STRUCT(id, NAME, name, from, to, purpose)             \
	struct msg_##name {                                       \
		MSG_FIELDS_##NAME(MSG_STRUCT_FIELD) char end_[0]; \
	};
MSG_LIST(MSG_STRUCT)
#undef MSG_STRUCT

/* magic u16, version u8, type u8, length u32, from_generation u32, to_generation u32, reserved u32 */
struct msg_head {
	uint8_t type;
	uint32_t from_generation; /* the sender's: how often master has started something, so unique per start */
	uint32_t to_generation;   /* whom it was meant for; 0: whoever reads */
};

struct packet {
	uint16_t len;
	uint8_t bytes[MSG_PACKET_MAX];
};

/*
 * msg_encode_deliver(packet, head, msg): head->type is set for you. A message whose fields exceed their maxima or the
 * packet is our bug. msg_decode_deliver(packet, msg): false when anything is short, long, over its maximum or left
 * over.
 */
#define MSG_PROTOTYPES(id, NAME, name, from, to, purpose)                                                  \
	void msg_encode_##name(struct packet *p, const struct msg_head *head, const struct msg_##name *m); \
	bool msg_decode_##name(const struct packet *p, struct msg_##name *m) MUST_CHECK;
MSG_LIST(MSG_PROTOTYPES)
#undef MSG_PROTOTYPES

bool msg_decode_head(const struct packet *p, struct msg_head *head) MUST_CHECK; /* magic, version, known type, length */
const char *msg_name(uint8_t type);                                             /* "DELIVER"; "?" when unknown */
bool msg_decode_any(const struct packet *p);                                    /* head and body: fuzzing, tests */
#endif
