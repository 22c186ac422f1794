--- What happens, as it happens: an extension. The answer does not end until the daemon does.
local events = require "peerup.daemon.events"
local nearest = require "peerup.nearest"

--- Reads ?types=connected,decision.
---@return table<string, true>? types  nil: all
---@return string? why
local function types_of(query)
  local text = type(query) == "table" and query.types or ""
  if text == "" then return nil end
  local known, types = {}, {}
  for _, name in ipairs(events.TYPES) do known[name] = true end
  for name in text:gmatch "[^,]+" do
    if not known[name] then
      local near = nearest.of(name, events.TYPES)
      return nil, ('there is no event type "%s"%s'):format(name:sub(1, 64),
        near and (', did you mean "%s"?'):format(near) or ": there are "
          .. table.concat(events.TYPES, ", "))
    end
    types[name] = true
  end
  return types
end

local function stream(state, request, text)
  local types, why = types_of(request.query)
  if why then return nil, why, 400 end
  state.events = state.events or events.hub(state.node)
  local feed
  feed, why = state.events:listen { types = types, text = text }
  if not feed then return nil, why, 503 end
  return feed
end

return {
  ["GET /v1/events"] = { stream = stream },
}
