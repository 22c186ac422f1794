--- Invites, an extension: a running daemon serves the joiner of `peerup invite`.
local json = require "peerup.json"
local text = require "peerup.daemon.text"

local function offer_data(offer)
  return json.object("state", offer.state, "code", offer.code, "expires_at",
    os.date("!%Y-%m-%dT%H:%M:%SZ", offer.expires), "relay_admits", offer.relay_admits,
    "relay_why", offer.relay_why, "notes", json.array(offer.notes), "peer_id", offer.peer,
    "comment", offer.comment, "name", offer.name, "name_problem", offer.name_problem,
    "vouched", offer.vouched, "vouch_why", offer.vouch_why)
end

local function invite_open(state, request)
  local offers = require "peerup.invite.offer"
  local body, problem = text.body(request)
  if not body then return nil, problem, 400 end
  local ttl_s, name = math.tointeger(body.ttl_seconds), body.name or ""
  if not ttl_s or ttl_s < 1 or ttl_s > offers.MAX_TTL_S or type(name) ~= "string" then
    return nil, "ttl_seconds must be between 1 and 86400, and name a string", 400
  end
  if state.opening or state.offer and state.offer.state == "open" then
    return nil, "an invite is open already; one at a time", 409
  end
  local opening = {}
  state.opening = opening
  local offer
  offer, problem = offers.open { node = state.node, name = name, ttl_s = ttl_s }
  state.opening = nil
  if not offer then return nil, problem, 502 end
  state.offer = offer
  if opening.unwanted then offer:close() end
  return offer_data(offer)
end

local function invite_show(state)
  if not state.offer then return nil, "no invite was opened", 404 end
  return offer_data(state.offer)
end

local function invite_close(state)
  if state.opening then -- nobody has its code: it closes as soon as it is open
    state.opening.unwanted = true
    return json.object("state", "stopped")
  end
  if not state.offer then return nil, "no invite was opened", 404 end
  state.offer:close()
  return offer_data(state.offer)
end

return {
  ["POST /v1/invite"] = { run = invite_open },
  ["GET /v1/invite"] = { run = invite_show },
  ["DELETE /v1/invite"] = { run = invite_close },
}
