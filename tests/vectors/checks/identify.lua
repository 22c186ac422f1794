--- Checks of identify's messages: protobuf.json, kinds identify and identify_parts.
local lib = require "lib"
local probe = require "peerup_probe"
local identify, identity, multiaddr = probe.identify, probe.identity, probe.multiaddr
local unhex, equal = lib.unhex, lib.equal

local PLAIN = { "protocol_version", "agent_version" }
local BYTES = { "public_key", "signed_peer_record" }

local function binary(text) return assert(multiaddr.from_text(text)) end

local function map(list, f)
  local out = {}
  for i, value in ipairs(list) do out[i] = f(value) end
  return out
end

local function equal_lists(what, got, want)
  equal("number of " .. what, #got, #want)
  for i, value in ipairs(want) do equal(("%s %d"):format(what, i), got[i], value) end
end

--- The vector's fields as the engine has them: addresses and bytes binary.
local function fields_of(case)
  local f = { listen_addrs = map(case.fields.listen_addrs, binary),
    protocols = case.fields.protocols }
  if case.fields.observed_addr then f.observed_addr = binary(case.fields.observed_addr) end
  for _, name in ipairs(PLAIN) do f[name] = case.fields[name] end
  for _, name in ipairs(BYTES) do f[name] = case.fields[name] and unhex(case.fields[name]) end
  return f
end

--- Reads a stream in many slicings; all must give the same, which is returned.
local function decode(stream)
  local whole = assert(identify.decode(stream, #stream))
  for _, chunk in ipairs { 1, 2, 3, 7, 64, 1000 } do
    local m = assert(identify.decode(stream, chunk))
    for name, value in pairs(whole) do
      if type(value) == "table" then
        equal_lists(name, m[name], value)
      else
        equal(name, m[name], value)
      end
    end
  end
  return whole
end

local function message(case)
  local want, stream = fields_of(case), unhex(case.delimited)
  equal("encoding", identify.encode(want), stream)
  local got = decode(stream)
  equal("messages", got.parts, 1)
  for _, name in ipairs(PLAIN) do equal(name, got[name], want[name]) end
  for _, name in ipairs(BYTES) do equal(name, got[name], want[name]) end
  equal("observed_addr", got.observed_addr, want.observed_addr)
  equal_lists("listen_addrs", got.listen_addrs, want.listen_addrs)
  equal_lists("protocols", got.protocols, want.protocols)
  local _, _, id = identity.public_key_parse(got.public_key)
  equal("peer ID of the key", id, case.fields.peer_id)
end

local function parts(case)
  local stream = unhex(case.stream)
  local got = decode(stream)
  equal("messages", got.parts, case.parts)
  equal("addresses", #got.listen_addrs, case.listen_addr_count)
  equal("record", got.signed_peer_record, unhex(case.signed_peer_record))
  local _, _, id = identity.public_key_parse(got.public_key)
  equal("peer ID of the key", id, case.peer_id)
  equal("encoding, split alike", identify.encode(got), stream)
end

return { protobuf = { identify = message, identify_parts = parts } }
