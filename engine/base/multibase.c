/* Text encodings (wire 2.2): base58btc and the multibases a CID may be written in. Bases of a power
 * of two go bit by bit; base58 and base36 are numbers, in time quadratic to their bounded length.
 */
#include "base/multibase.h"

#include <string.h>

#include "peerup/error.h"

static const char BASE2[] = "01";
static const char BASE16[] = "0123456789abcdef";
static const char BASE32[] = "abcdefghijklmnopqrstuvwxyz234567";
static const char BASE32_UPPER[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
static const char BASE32_HEX[] = "0123456789abcdefghijklmnopqrstuv";
static const char BASE36[] = "0123456789abcdefghijklmnopqrstuvwxyz";
static const char BASE58_BTC[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
static const char BASE58_FLICKR[] = "123456789abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ";
static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char BASE64_URL[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* One way to write bytes as text. */
typedef struct base {
  char prefix;
  const char *alphabet;
  unsigned bits; /* per letter; 0: a number in base strlen(alphabet) */
  unsigned pad;  /* letters per padded group; 0: no padding */
  bool any_case; /* lower-case alphabet that takes upper case as well */
} base;

static const base BASES[] = {
    {'0', BASE2, 1, 0, false},         {'f', BASE16, 4, 0, true},
    {'F', BASE16, 4, 0, true},         {'b', BASE32, 5, 0, true},
    {'B', BASE32, 5, 0, true},         {'c', BASE32, 5, 8, true},
    {'C', BASE32, 5, 8, true},         {'v', BASE32_HEX, 5, 0, true},
    {'V', BASE32_HEX, 5, 0, true},     {'t', BASE32_HEX, 5, 8, true},
    {'T', BASE32_HEX, 5, 8, true},     {'k', BASE36, 0, 0, true},
    {'K', BASE36, 0, 0, true},         {'z', BASE58_BTC, 0, 0, false},
    {'Z', BASE58_FLICKR, 0, 0, false}, {'m', BASE64, 6, 0, false},
    {'M', BASE64, 6, 4, false},        {'u', BASE64_URL, 6, 0, false},
    {'U', BASE64_URL, 6, 4, false},
};

/* digit_of returns the value of letter |c|, -1 when the alphabet lacks it. */
static int digit_of(const base *b, char c) {
  if (b->any_case && c >= 'A' && c <= 'Z')
    c = (char)(c - 'A' + 'a');
  const char *at = c == '\0' ? NULL : strchr(b->alphabet, c);
  return at == NULL ? -1 : (int)(at - b->alphabet);
}

static ssize_t encode_bits(const char *alphabet, unsigned bits, const uint8_t *in, size_t len,
                           char *out, size_t cap) {
  if (len > (SIZE_MAX - bits) / 8 - 1)
    return PU_E_LIMIT;
  size_t letters = (len * 8 + bits - 1) / bits;
  if (letters >= cap)
    return PU_E_LIMIT;
  uint32_t held = 0;
  unsigned held_bits = 0;
  size_t n = 0;
  for (size_t i = 0; i < len; i++) {
    held = (held << 8 | in[i]) & 0xffff;
    held_bits += 8;
    while (held_bits >= bits) {
      held_bits -= bits;
      out[n++] = alphabet[(held >> held_bits) & ((1U << bits) - 1)];
    }
  }
  if (held_bits > 0)
    out[n++] = alphabet[(held << (bits - held_bits)) & ((1U << bits) - 1)];
  out[n] = '\0';
  return (ssize_t)n;
}

static ssize_t decode_bits(const base *b, const char *text, size_t len, uint8_t *out, size_t cap) {
  if (b->pad != 0) {
    if (len % b->pad != 0)
      return PU_E_PARSE;
    for (unsigned i = 0; i + 1 < b->pad && len > 0 && text[len - 1] == '='; i++)
      len--;
  }
  uint32_t held = 0;
  unsigned held_bits = 0;
  size_t n = 0;
  for (size_t i = 0; i < len; i++) {
    int digit = digit_of(b, text[i]);
    if (digit < 0)
      return PU_E_PARSE;
    held = (held << b->bits | (uint32_t)digit) & 0xffff;
    held_bits += b->bits;
    if (held_bits < 8)
      continue;
    held_bits -= 8;
    if (n == cap)
      return PU_E_LIMIT;
    out[n++] = (uint8_t)(held >> held_bits);
  }
  /* What is left is filler: less than a letter, and zero. */
  if (held_bits >= b->bits || (held & ((1U << held_bits) - 1)) != 0)
    return PU_E_PARSE;
  return (ssize_t)n;
}

static ssize_t decode_number(const base *b, const char *text, size_t len, uint8_t *out,
                             size_t cap) {
  if (len > PU_BASE58_MAX_TEXT)
    return PU_E_LIMIT;
  unsigned radix = (unsigned)strlen(b->alphabet);
  uint8_t number[PU_BASE58_MAX_TEXT]; /* lowest byte first; a letter carries less than a byte */
  size_t used = 0, zeros = 0;
  for (size_t i = 0; i < len; i++) {
    int digit = digit_of(b, text[i]);
    if (digit < 0)
      return PU_E_PARSE;
    if (used == 0 && digit == 0) {
      zeros++;
      continue;
    }
    unsigned carry = (unsigned)digit;
    for (size_t j = 0; j < used; j++) {
      carry += number[j] * radix;
      number[j] = (uint8_t)carry;
      carry >>= 8;
    }
    if (carry > 0)
      number[used++] = (uint8_t)carry;
  }
  if (zeros + used > cap)
    return PU_E_LIMIT;
  memset(out, 0, zeros);
  for (size_t i = 0; i < used; i++)
    out[zeros + i] = number[used - 1 - i];
  return (ssize_t)(zeros + used);
}

ssize_t pu_base58_encode(const uint8_t *in, size_t len, char *out, size_t cap) {
  if (len > PU_BASE58_MAX_TEXT)
    return PU_E_LIMIT;
  uint8_t digits[PU_BASE58_MAX_TEXT * 7 / 5 + 1]; /* log 256 / log 58 is below 7/5 */
  size_t used = 0, zeros = 0;
  while (zeros < len && in[zeros] == 0)
    zeros++;
  for (size_t i = zeros; i < len; i++) {
    unsigned carry = in[i];
    for (size_t j = 0; j < used; j++) {
      carry += (unsigned)digits[j] << 8;
      digits[j] = (uint8_t)(carry % 58);
      carry /= 58;
    }
    for (; carry > 0; carry /= 58)
      digits[used++] = (uint8_t)(carry % 58);
  }
  if (zeros + used >= cap)
    return PU_E_LIMIT;
  memset(out, BASE58_BTC[0], zeros);
  for (size_t i = 0; i < used; i++)
    out[zeros + i] = BASE58_BTC[digits[used - 1 - i]];
  out[zeros + used] = '\0';
  return (ssize_t)(zeros + used);
}

ssize_t pu_base58_decode(const char *text, size_t len, uint8_t *out, size_t cap) {
  static const base btc = {'z', BASE58_BTC, 0, 0, false};
  return decode_number(&btc, text, len, out, cap);
}

ssize_t pu_base32_encode(const uint8_t *in, size_t len, bool upper, char *out, size_t cap) {
  return encode_bits(upper ? BASE32_UPPER : BASE32, 5, in, len, out, cap);
}

ssize_t pu_base64url_encode(const uint8_t *in, size_t len, char *out, size_t cap) {
  return encode_bits(BASE64_URL, 6, in, len, out, cap);
}

ssize_t pu_multibase_decode(const char *text, size_t len, uint8_t *out, size_t cap) {
  if (len == 0)
    return PU_E_PARSE;
  for (size_t i = 0; i < sizeof(BASES) / sizeof(BASES[0]); i++) {
    const base *b = &BASES[i];
    if (b->prefix != text[0])
      continue;
    if (b->bits == 0)
      return decode_number(b, text + 1, len - 1, out, cap);
    return decode_bits(b, text + 1, len - 1, out, cap);
  }
  return PU_E_UNSUPPORTED;
}
