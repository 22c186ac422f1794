--- Checks of circuit relay v2: protobuf.json, kinds hop, hop_status, stop and stop_status.
local lib = require "lib"
local probe = require "peerup_probe"
local relay, identity, multiaddr = probe.relay, probe.identity, probe.multiaddr
local unhex, equal = lib.unhex, lib.equal

local TYPES = { RESERVE = 0, CONNECT = 1, STATUS = 2 } -- of hop; a stop message shares the names
local FIELDS = { "stop", "type", "peer", "status", "duration", "data", "expire", "voucher" }
local RAW = "what follows a message is not a part of it"

--- The vector's fields as the engine has them.
local function fields_of(case, stop)
  local f, m = case.fields, { stop = stop, type = TYPES[case.fields.type], addrs = {} }
  m.status = f.status
  if f.peer then m.peer = assert(identity.id_from_text(f.peer)) end
  if f.limit then m.duration, m.data = f.limit.duration, f.limit.data end
  local r = f.reservation
  if r then
    m.expire, m.voucher = r.expire, unhex(r.voucher)
    for i, text in ipairs(r.addrs) do m.addrs[i] = assert(multiaddr.from_text(text)) end
  end
  return m
end

local function check_fields(got, want)
  for _, name in ipairs(FIELDS) do equal(name, got[name], want[name]) end
  equal("number of addresses", #got.addrs, #want.addrs)
  for i, addr in ipairs(want.addrs) do equal("address " .. i, got.addrs[i], addr) end
end

local function check(case, stop)
  local want, stream = fields_of(case, stop), unhex(case.delimited)
  equal("length prefix", stream:sub(-#unhex(case.bytes)), unhex(case.bytes))
  for _, chunk in ipairs { 1, 2, 3, 7, 64, #stream, #stream + #RAW } do
    local got = assert(relay.decode(stop, stream .. RAW, chunk))
    equal("bytes taken", got.used, #stream)
    check_fields(got, want)
  end
  for cut = 0, #stream - 1 do
    local got, err = relay.decode(stop, stream:sub(1, cut), 64)
    equal("cut short", got, nil)
    equal("cut short", err, "again")
  end
  local encoded = assert(relay.encode(want))
  local peer_addrs = case.fields.peer_addrs
  if peer_addrs and #peer_addrs > 0 then
    -- A relay has no use for addresses of a target: they are skipped, and not written by us.
    check_fields(assert(relay.decode(stop, encoded, 64)), want)
  else
    equal("encoding", encoded, stream)
  end
end

local function hop(case) check(case, false) end
local function stop(case) check(case, true) end

local function status(run)
  return function(case)
    equal("name", relay.status_name(case.fields.status), case.fields.status_name)
    run(case)
  end
end

return { protobuf = {
  hop = hop, stop = stop, hop_status = status(hop), stop_status = status(stop),
} }
