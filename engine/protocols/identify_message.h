/* Identify's messages (wire 11): a core without I/O. What we tell goes out as one or two delimited
 * messages; what a peer tells comes in as up to nine, which count as one; and rules say which of
 * its addresses are taken. identify.c carries the bytes. */
#ifndef PU_PROTOCOLS_IDENTIFY_MESSAGE_H
#define PU_PROTOCOLS_IDENTIFY_MESSAGE_H

#include "identity/envelope.h"
#include "multiaddr/multiaddr.h"

#define PU_IDENTIFY_MAX_MESSAGE 8192u /* of each message that is taken */
#define PU_IDENTIFY_MAX_PARTS 9u
#define PU_IDENTIFY_SPLIT 2048u   /* a longer whole goes out with the record apart */
#define PU_IDENTIFY_OWN_MAX 4096u /* COMPAT: rust-libp2p takes no longer message */
#define PU_IDENTIFY_MAX_ADDRS 64u /* taken from a peer, told to one */
#define PU_IDENTIFY_MAX_OWN_PROTOCOLS 256u

/* What one side tells. All pointers are borrowed. */
typedef struct pu_identify_own {
  const pu_public_key *key;
  const pu_multiaddr *addrs;
  size_t addr_count;
  const char *const *protocols; /* sorted, as the Go program sends them */
  size_t protocol_count;
  const pu_multiaddr *observed; /* NULL or len 0: none */
  const char *protocol_version, *agent_version;
  const uint8_t *record; /* signed peer record; NULL: none */
  size_t record_len;
} pu_identify_own;

/* pu_identify_encode writes it into fresh memory of |mem|: one delimited message, or two when it is
 * long. PU_E_LIMIT when a part exceeds PU_IDENTIFY_MAX_MESSAGE, PU_E_INVAL when there are more
 * addresses or protocols than the bounds above, PU_E_NOMEM. */
PU_MUST_CHECK int pu_identify_encode(pu_mem *mem, const pu_identify_own *own, uint8_t **out,
                                     size_t *out_len);
/* pu_identify_record signs a peer record of |addrs| into fresh memory of |mem|. */
PU_MUST_CHECK int pu_identify_record(pu_mem *mem, const pu_key *key, const pu_multiaddr *addrs,
                                     size_t addr_count, uint64_t seq, uint8_t **out,
                                     size_t *out_len);

/* What a peer told, borrowed from the reader's memory. Absent fields have a NULL |data|. */
typedef struct pu_identify_field {
  const uint8_t *data;
  size_t len;
} pu_identify_field;

typedef struct pu_identify {
  pu_identify_field public_key, observed, protocol_version, agent_version, record;
  size_t addr_count, protocol_count; /* as sent, without a bound */
  pu_identify_field all;             /* the messages, one behind the other: see pu_identify_next */
} pu_identify;

typedef enum pu_identify_list { PU_IDENTIFY_ADDRS = 2, PU_IDENTIFY_PROTOCOLS = 3 } pu_identify_list;

/* pu_identify_next gives the next element of a list; |*rest| begins as |m|->all. False at the end.
 */
bool pu_identify_next(pu_identify_field *rest, pu_identify_list list, pu_identify_field *out);

/* Takes the bytes of a stream in any slicing. The owner frees it with pu_identify_reader_free. */
typedef struct pu_identify_reader {
  pu_mem *mem;
  uint8_t *bytes;
  size_t len, cap;
  size_t done;    /* bytes in front that are bodies of complete messages, without their lengths */
  unsigned parts; /* messages that are complete */
} pu_identify_reader;

void pu_identify_reader_init(pu_identify_reader *r, pu_mem *mem);
/* pu_identify_reader_feed: PU_E_LIMIT (a message too long, a tenth message), PU_E_PARSE (a bad
 * length), PU_E_NOMEM. */
PU_MUST_CHECK int pu_identify_reader_feed(pu_identify_reader *r, const uint8_t *in, size_t len);
/* pu_identify_reader_end is called at the end of the stream; |out| borrows from the reader.
 * PU_E_PARSE when nothing, a part of a message, or no protobuf came. */
PU_MUST_CHECK int pu_identify_reader_end(const pu_identify_reader *r, pu_identify *out);
void pu_identify_reader_free(pu_identify_reader *r);

/* pu_identify_addrs picks the addresses to keep of |m|, told by |peer| over a connection to
 * |remote|: those of a record that is signed by the peer and about it, none when the record is
 * about or signed by another, else the listen addresses; over a public connection public ones only,
 * over a private one no loopback. Returns how many of |max| it filled. */
size_t pu_identify_addrs(pu_mem *mem, const pu_identify *m, const pu_peer_id *peer,
                         const pu_multiaddr *remote, pu_multiaddr *out, size_t max);

#endif
