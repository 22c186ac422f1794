/* What every security protocol on a byte stream looks like to the connection upgrade: a handshake
 * core, then records sealed and opened in place. Noise (noise.c) and TLS (tls.c) fill it.
 * No I/O, no clock: bytes go in and come out. */
#ifndef PU_SECURITY_SECURITY_H
#define PU_SECURITY_SECURITY_H

#include "base/mem.h"
#include "base/span.h"
#include "identity/key.h"

#define PU_SECURITY_MUXERS_MAX 8        /* names we offer or keep */
#define PU_SECURITY_MUXER_NAME_MAX 64   /* longer names of a peer are ignored */

typedef struct pu_security pu_security;

typedef struct pu_security_config {
  pu_mem *mem;
  bool initiator;
  const pu_key *key;            /* ours; outlives the handshake */
  struct pu_tls_identity *tls;  /* our certificate, for TLS; NULL: none */
  uint64_t now_unix_s;          /* for TLS, which looks at dates; 0: unknown, not looked at */
  const pu_peer_id *expected;   /* NULL or len 0: any peer */
  const char *const *muxers;    /* ours, best first; outlive the handshake */
  size_t muxer_count;
  void (*random)(void *data, void *out, size_t len); /* ephemeral keys */
  void *random_data;
} pu_security_config;

/* What a finished handshake proved. */
typedef struct pu_security_result {
  pu_peer_id peer;
  pu_public_key key;
  char muxer[PU_SECURITY_MUXER_NAME_MAX]; /* agreed early; "" : negotiate inside the channel */
} pu_security_result;

typedef struct pu_security_ops {
  const char *id;      /* "/noise" */
  size_t head, tail;   /* room a record needs around its payload */
  size_t max_plain;    /* most payload bytes of one record */
  size_t max_record;   /* most bytes of one record on the wire */

  /* start makes a session. */
  int (*start)(const pu_security_config *config, pu_security **out);
  void (*free)(pu_security *s);

  /* Handshake. read takes bytes and returns how many it used: it never takes bytes behind the
   * handshake, and may take none while a message of ours is unwritten. PU_E_PROTOCOL, PU_E_CRYPTO,
   * PU_E_PEER_MISMATCH, PU_E_NOMEM end it, and every later call repeats the first error. write
   * gives bytes to send, 0 when it has none, or such an error. result is NULL until the handshake is
   * done and write gives none. */
  ssize_t (*read)(pu_security *s, const uint8_t *in, size_t len);
  ssize_t (*write)(pu_security *s, uint8_t *out, size_t cap);
  const pu_security_result *(*result)(const pu_security *s);

  /* Records. seal encrypts |io| (len <= max_plain, head and tail as above) in place and widens it to
   * the whole record. open takes one record from the front of |in| and decrypts in place: returns
   * the bytes of the record and the payload in |plain| (which may be empty), 0 when the record is
   * not complete, PU_E_CRYPTO, PU_E_PROTOCOL. need returns how many more bytes would complete the
   * record that begins with |len| bytes at |in| (at least 1). open returns PU_E_EOF when the peer said
   * that nothing follows (TLS's close_notify; Noise has no such thing). */
  int (*seal)(pu_security *s, pu_span *io);
  ssize_t (*open)(pu_security *s, uint8_t *in, size_t len, pu_span *plain);
  size_t (*need)(const pu_security *s, const uint8_t *in, size_t len);

  /* Ends. Both may be NULL. last gives bytes that the peer should get before the connection is closed,
   * after an error too (an alert, a farewell): 0 when there are none. why says what the first error was
   * about, in a static text for people; NULL when it has nothing to add. */
  size_t (*last)(pu_security *s, uint8_t *out, size_t cap);
  const char *(*why)(const pu_security *s);
} pu_security_ops;

extern const pu_security_ops pu_noise_ops;
extern const pu_security_ops pu_tls_ops;

#endif
