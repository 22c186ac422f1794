--- A member's side of pairing: joining by a code, keeping the group, and taking the relay's notices
-- of those who come later (wire.md 20, docs/relay-pairing.md).
local err = require "peerup.err"
local keys = require "peerup.authorized_keys"
local known = require "peerup.invite.known"
local messages = require "peerup.pairing.messages"
local relays = require "peerup.relays"

local M = {}

M.JOIN_S = 30
local NOTICE_S = 10
local READ_BYTES = 4096

--- Reads to the end of a stream.
---@async
local function read_all(stream, ends)
  local parts, size = {}, 0
  while true do
    local left = ends - os.time()
    if left <= 0 then return nil, err.say("timeout", "the answer took too long") end
    local bytes, problem = stream:read(READ_BYTES, left)
    if not bytes then
      if problem and not err.is(problem, "eof") then return nil, problem end
      return table.concat(parts)
    end
    size = size + #bytes
    if size > messages.MAX_MESSAGE then
      return nil, err.say("protocol_error", "the message is too long")
    end
    parts[#parts + 1] = bytes
  end
end

local function refused()
  return err.say("denied", "Pairing failed: pairing failed (the relay does not say why: the code "
    .. "was used, has expired or was revoked; ask the relay's operator for a new one)")
end

--- Pairs by a code.
---@async
---@param options {node: peerup.node, code: peerup.invite_code, name: string,
---  on_step: fun(text: string)?}
---@return {group: string, size: integer, peers: peerup.pairing_peer[]}? answer, peerup.err?
function M.join(options)
  local node, pairing = options.node, options.code
  local ends = os.time() + M.JOIN_S
  local relay = { addr = pairing.relay_addr, peer = pairing.relay_peer }
  node.rules.targets[relay.peer] = true
  node.rules.relays[relay.peer] = true
  relays.tell(node.host, relay)
  local conn, problem = node.host:connect(relay.peer, { timeout = M.JOIN_S })
  if not conn then
    return nil, err.say(problem.code, ("Failed to connect to relay %s (tried for up to %d s): %s")
      :format(relay.addr, M.JOIN_S, tostring(problem)))
  end
  conn, problem = node:settle(relay.peer)
  if not conn then
    return nil, err.say(problem.code, ("The relay %s did not let us in: %s. Its pairing group has "
      .. "ended, or all its codes are used; ask the relay's operator for a new code"):format(
      relay.addr, tostring(problem)))
  end
  if options.on_step then options.on_step "Pairing with the relay" end
  local stream
  stream, problem = node.host:open_stream(relay.peer, messages.PAIR,
    { timeout = math.max(1, ends - os.time()), no_dial = true })
  local bytes
  if stream then
    local ok
    ok, problem = stream:write(messages.encode_request(pairing.token, options.name), M.JOIN_S)
    if ok then
      stream:close_write()
      bytes, problem = read_all(stream, ends)
    end
    stream:close()
  elseif err.is(problem, "protocol_error", "unsupported", "not_supported") then
    return nil, refused()
  end
  if not bytes then
    return nil, err.say(problem.code, "Pairing failed: " .. tostring(problem))
  end
  local answer
  answer, problem = messages.decode_answer(bytes)
  if not answer then
    if problem.code == "denied" then return nil, refused() end
    return nil, err.say(problem.code, "Pairing failed: " .. tostring(problem))
  end
  if not messages.is_group(answer.group) then
    return nil, err.say("protocol_error", "Pairing failed: the relay's answer names no group")
  end
  return answer
end

local function hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

--- Adds a peer, or gives its line the attributes it lacks.
local function put(text, peer, comment, attributes)
  local changed, problem = keys.add(text, peer, comment, attributes)
  if changed or not err.is(problem, "exists") then return changed, problem end
  for name, value in pairs(attributes) do
    text, problem = keys.set_attribute(text, peer, name, value)
    if not text then return nil, problem end
  end
  return text
end

local function comment_of(name)
  local comment = name:gsub("%c", "")
  return comment:match("^%s*$") and os.date "paired-%Y-%m-%d" or comment
end

--- Keeps what the relay answered: the relay (as a relay only: it may not use services), its group,
--- and who is in it.
---@param options {path: string, keys: string, relay: string, token: string,
---  answer: {group: string, size: integer, peers: peerup.pairing_peer[]}}
---@return {peer: string, name: string}[]? kept  name: what to call it by; peerup.err?
function M.keep(options)
  local answer = options.answer
  local ok, problem = keys.update_file(options.keys, function(text)
    local is_peer = keys.list(text) or {}
    local role = "relay"
    for _, entry in ipairs(is_peer) do -- one that is known as a peer stays one
      if entry.peer_id == options.relay then role = entry.attributes.role or "" end
    end
    local changed, why = put(text, options.relay, "relay", { group = answer.group, role = role,
      group_size = tostring(answer.size),
      hmac_proof = hex(messages.proof(options.token, answer.group)) })
    for _, one in ipairs(answer.peers) do
      if not changed then break end
      changed, why = put(changed, one.peer, comment_of(one.name), { group = answer.group })
    end
    return changed, why
  end)
  if not ok then return nil, problem end
  local kept = {}
  for i, one in ipairs(answer.peers) do
    kept[i] = { peer = one.peer, name = known.add_name(options.path, one.peer, one.name)
      or one.peer }
  end
  return kept
end

-- ---- notices ----

--- Which peers of a notice are new, if the notice may be followed: the relay must be one of ours,
--- somebody we authorized must be of the group, and the group must not grow past its codes.
---@param authorized table<string, peerup.key_entry>
---@param relay string
---@param notice {group: string, size: integer, peers: peerup.pairing_peer[]}
---@param own string  our peer ID
---@return peerup.pairing_peer[]? new, string? why_not
function M.newcomers(authorized, relay, notice, own)
  if not messages.is_group(notice.group) then return nil, "it names no group" end
  local members, limit, is_ours = 0, nil, false
  for peer, entry in pairs(authorized) do
    if entry.group == notice.group then
      is_ours = true
      if peer ~= relay then members = members + 1 end
      local size = math.tointeger(tonumber(entry.attributes.group_size))
      if size and (not limit or size > limit) then limit = size end
    end
  end
  if not is_ours then return nil, "we are not in that group" end
  local new = {}
  for _, one in ipairs(notice.peers) do
    if one.peer ~= own and one.peer ~= relay and not authorized[one.peer] then
      new[#new + 1] = one
    end
  end
  if members + #new + 1 > (limit or notice.size) then
    return nil, ("the group would have %d members, more than its %d codes"):format(
      members + #new + 1, limit or notice.size)
  end
  return new
end

--- Takes a notice of one of our relays.
---@param node peerup.node
---@param relay string
---@param bytes string
---@return integer? added, peerup.err?
function M.take(node, relay, bytes)
  local notice, problem = messages.decode_notice(bytes)
  if not notice then return nil, problem end
  local added
  local ok
  ok, problem = keys.update_file(node.config.security.authorized_keys_file, function(text)
    local authorized, why = keys.load(text)
    if not authorized then return nil, why end
    added, why = M.newcomers(authorized, relay, notice, node.peer_id)
    if not added then return nil, err.say("denied", why) end
    for _, one in ipairs(added) do
      text, why = keys.add(text, one.peer, comment_of(one.name), { group = notice.group,
        hmac_proof = one.proof and hex(one.proof) or nil })
      if not text then return nil, why end
    end
    return text
  end)
  if not ok then return nil, problem end
  if #added == 0 then return 0 end
  for _, one in ipairs(added) do
    local name, why = known.add_name(node.config.path, one.peer, one.name)
    node.log:info("the relay introduced a member of our group", "peer", one.peer, "name",
      name or "", "group", notice.group, "problem", why and tostring(why))
    node:dispatch { type = "auth_change", action = "add", peer = one.peer }
  end
  ok, problem = node:reload_authorized()
  if not ok then return nil, problem end
  return #added
end

--- Serves the relay's notices.
---@param node peerup.node
---@return true?, peerup.err?
function M.serve(node)
  if node.config.security.authorized_keys_file == "" then return true end
  return node.host:handle(messages.NOTIFY, function(stream)
    local relay = stream:peer()
    local bytes, problem = read_all(stream, os.time() + NOTICE_S)
    local ok
    if bytes then ok, problem = M.take(node, relay, bytes) end
    if not ok then
      node.log:warn("a relay's notice of our group was not followed", "relay", relay, "why",
        tostring(problem))
    end
    stream:close()
  end)
end

return M
