local core = require "peerup.core"

local crypto = core.crypto

local function bytes(hex)
  return (hex:gsub("%x%x", function(pair)
    return string.char(tonumber(pair, 16))
  end))
end

local function hex(text)
  return (text:gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end))
end

describe("core.crypto", function()
  it("gives random bytes", function()
    assert.equal("", crypto.random(0))
    assert.equal(32, #crypto.random(32))
    assert.not_equal(crypto.random(32), crypto.random(32))
    assert.has_error(function()
      crypto.random(-1)
    end)
    assert.has_error(function()
      crypto.random(1 << 40)
    end)
  end)

  it("multiplies on Curve25519 (RFC 7748, 5.2)", function()
    local nine = "\9" .. ("\0"):rep(31)
    assert.equal("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
      hex(crypto.x25519(nine, nine)))
  end)

  it("agrees on a secret", function()
    local private, public = crypto.x25519_keypair()
    local other, other_public = crypto.x25519_keypair()
    assert.not_equal(private, other)
    assert.equal(crypto.x25519(private, other_public), crypto.x25519(other, public))
    assert.equal(public, crypto.x25519_public(private))
  end)

  it("refuses points of low order", function()
    local private = crypto.x25519_keypair()
    local shared, err = crypto.x25519(private, ("\0"):rep(32))
    assert.is_nil(shared)
    assert.equal("crypto_failed", err.code)
    assert.is_nil((crypto.x25519(private, "\1" .. ("\0"):rep(31))))
  end)

  it("hashes (FIPS 180, RFC 4231, RFC 5869)", function()
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      hex(crypto.sha256("abc")))
    assert.equal("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
      hex(crypto.hmac_sha256("Jefe", "what do ya want for nothing?")))
    assert.equal("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
      .. "34007208d5b887185865", hex(crypto.hkdf_sha256(("\x0b"):rep(22),
      bytes "000102030405060708090a0b0c", bytes "f0f1f2f3f4f5f6f7f8f9", 42)))
    assert.equal(crypto.hkdf_sha256("k", "", "", 32), crypto.hkdf_sha256("k", nil, nil, 32))
    assert.has_error(function()
      crypto.hkdf_sha256("k", "", "", 8161)
    end)
    assert.has_error(function()
      crypto.hkdf_sha256("k", "", "", 0)
    end)
  end)

  it("seals and opens", function()
    local key, nonce = crypto.random(32), crypto.random(24)
    for _, text in ipairs { "", "x", ("long"):rep(10000) } do
      local sealed = crypto.xchacha_seal(key, nonce, text)
      assert.equal(#text + 16, #sealed)
      assert.equal(text, crypto.xchacha_open(key, nonce, sealed))
    end
    local sealed = crypto.xchacha_seal(key, nonce, "text")
    for at = 1, #sealed do
      local changed = sealed:sub(1, at - 1) .. string.char(sealed:byte(at) ~ 1)
        .. sealed:sub(at + 1)
      local text, err = crypto.xchacha_open(key, nonce, changed)
      assert.is_nil(text)
      assert.equal("crypto_failed", err.code)
    end
    assert.is_nil((crypto.xchacha_open(key, nonce, sealed:sub(1, 15))))
    assert.is_nil((crypto.xchacha_open(crypto.random(32), nonce, sealed)))
    assert.has_error(function()
      crypto.xchacha_seal("short", nonce, "text")
    end)
    assert.has_error(function()
      crypto.xchacha_open(key, nonce .. "x", sealed)
    end)
  end)

  it("compares", function()
    assert.is_true(crypto.equal("", ""))
    assert.is_true(crypto.equal("abc", "abc"))
    assert.is_false(crypto.equal("abc", "abd"))
    assert.is_false(crypto.equal("abc", "ab"))
  end)

  it("encodes base32 (RFC 4648, without padding)", function()
    for plain, coded in pairs { [""] = "", f = "MY", fo = "MZXQ", foo = "MZXW6",
      foob = "MZXW6YQ", fooba = "MZXW6YTB", foobar = "MZXW6YTBOI" } do
      assert.equal(coded, crypto.base32_encode(plain))
    end
  end)
end)
