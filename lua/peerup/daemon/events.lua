--- What happens on a node, for GET /v1/events: the bus' events as JSON and as lines for people, and
-- the listeners that read them, each with a bounded queue.
local core = require "peerup.core"
local json = require "peerup.json"
local names = require "peerup.names"
local nodes = require "peerup.node"
local uv = require "luv"

local M = {}

M.LISTENERS_MAX = 16
M.QUEUE_BYTES = 256 * 1024 -- that a listener may have unread
M.KEEP_ALIVE_MS = 15000    -- a sign of life, by which those who have gone are found out
M.RECENT_MAX = 100         -- events kept for listeners that come later

local function of_conn(event, ...)
  local conn = event.conn
  return json.object("peer", conn.peer, "path", nodes.path_of(conn), "addr", conn.addr,
    "transport", conn.transport, ...)
end

local function of_fields(...)
  local fields = { ... }
  return function(event)
    local pairs_of = {}
    for i, field in ipairs(fields) do
      pairs_of[2 * i - 1], pairs_of[2 * i] = field, event[field]
    end
    return json.object(table.unpack(pairs_of, 1, 2 * #fields))
  end
end

-- Type of the bus -> its fields; what is not here is not told.
local FIELDS = {
  connected = function(event)
    return of_conn(event, "direction", event.conn.outbound and "outbound" or "inbound")
  end,
  disconnected = function(event)
    return of_conn(event, "code", event.code, "why", event.detail)
  end,
  identified = function(event) return of_conn(event, "agent", event.conn.agent) end,
  path = of_fields("peer", "path", "before", "addr"),
  dialled = of_fields("peer", "path", "seconds", "code"),
  decision = of_fields("ask", "allowed", "why", "peer", "target", "protocol", "service"),
  dropped = of_fields("peer", "code", "detail"),
  service = of_fields("service", "peer", "opened", "status", "bytes_in", "bytes_out",
    "duration_us"),
  exposed = of_fields("service", "local_address"),
  unexposed = of_fields("service"),
  reserved = of_fields("peer", "detail"),
  reservation_lost = of_fields("peer", "code", "detail"),
  addresses = function() return json.object() end,
  auth_change = of_fields("action", "peer"),
  config_change = of_fields("action", "path"),
}

--- The types there are, in order.
M.TYPES = {}
for name in pairs(FIELDS) do M.TYPES[#M.TYPES + 1] = name end
table.sort(M.TYPES)

--- The time of now, RFC 3339 in UTC with milliseconds.
---@return string
function M.time()
  local seconds, micros = uv.gettimeofday()
  return ("%s.%03dZ"):format(os.date("!%Y-%m-%dT%H:%M:%S", seconds), micros // 1000)
end

--- Makes the object of an event; nil for one that is not told.
---@param event table
---@param time string
---@return table? object
function M.describe(event, time)
  local fields = FIELDS[event.type]
  if not fields then return nil end
  return json.object("time", time, "type", event.type, "data", fields(event))
end

-- ---- for people ----

local function who(node, peer)
  if not peer then return "a stranger" end
  return names.of(node.names, peer) or peer:sub(1, 16) .. "..."
end

local function mib(bytes) return ("%.1f MiB"):format((bytes or 0) / 1048576) end

local WORDS = {
  connected = function(n, e)
    return ("%s is connected [%s], %s"):format(who(n, e.conn.peer), nodes.path_of(e.conn),
      e.conn.addr)
  end,
  disconnected = function(n, e)
    return ("%s: connection over %s ended%s"):format(who(n, e.conn.peer), e.conn.addr,
      (e.detail or "") ~= "" and ": " .. e.detail or "")
  end,
  path = function(n, e)
    return ("%s: path is now [%s], was [%s]"):format(who(n, e.peer), e.path, e.before)
  end,
  dialled = function(n, e)
    return ("%s: %s after %.1f s"):format(who(n, e.peer),
      e.path and "reached [" .. e.path .. "]" or "not reached (" .. tostring(e.code) .. ")",
      e.seconds)
  end,
  decision = function(n, e)
    return ("%s %s%s to %s%s"):format(e.allowed and "allowed" or "DENIED", e.ask,
      e.service and " of service " .. e.service or e.protocol and " of " .. e.protocol or "",
      who(n, e.peer), e.why and ": " .. e.why or "")
  end,
  service = function(n, e)
    if e.opened then return ("%s opened service %s"):format(who(n, e.peer), e.service) end
    return ("%s: service %s ended, %s in, %s out%s"):format(who(n, e.peer), e.service,
      mib(e.bytes_in), mib(e.bytes_out), e.status and " (" .. e.status .. ")" or "")
  end,
  exposed = function(_, e)
    return ("service %s is offered, at %s"):format(e.service, e.local_address)
  end,
  unexposed = function(_, e) return ("service %s is offered no longer"):format(e.service) end,
  reserved = function(n, e) return ("reservation at relay %s"):format(who(n, e.peer)) end,
  reservation_lost = function(n, e)
    return ("no reservation at relay %s: %s"):format(who(n, e.peer), e.detail or e.code or "")
  end,
  addresses = function() return "this machine's addresses have changed" end,
  dropped = function(n, e) return ("dropped %s: %s"):format(who(n, e.peer), e.detail or e.code) end,
  auth_change = function(n, e)
    return ("authorized_keys: %s%s"):format(e.action, e.peer and " " .. who(n, e.peer) or "")
  end,
  config_change = function(_, e) return ("config: %s"):format(e.action) end,
  identified = function(n, e)
    return ("%s speaks %s"):format(who(n, e.conn.peer), e.conn.agent)
  end,
}

--- Makes a line for a person; nil for an event that is not told.
---@return string?
function M.line(node, event, time)
  local words = WORDS[event.type]
  return words and FIELDS[event.type] and ("%s  %s"):format(time, words(node, event)) or nil
end

-- ---- listeners ----

---@class peerup.event_hub
local Hub = {}
Hub.__index = Hub

--- Makes the hub of a node; it listens to the bus only while somebody listens to it.
---@param node peerup.node
---@return peerup.event_hub
function M.hub(node)
  return setmetatable({ node = node, listeners = {}, count = 0, cut = 0 }, Hub)
end

function Hub:remove(listener)
  if not self.listeners[listener] then return end
  self.listeners[listener] = nil
  self.count = self.count - 1
  listener.feed:close()
  if self.count == 0 then
    self.off()
    self.timer:close()
    self.node:listen_decisions(-1)
  end
end

local function send(self, listener, text)
  local ok, problem = listener.feed:write(text)
  if ok then return end
  if problem.code == "limit" then
    self.cut = self.cut + 1
    self.node.log:warn("a listener of events was too slow and is cut off")
  end
  self:remove(listener)
end

function Hub:tell(event)
  local time = M.time()
  local object, line
  for listener in pairs(self.listeners) do
    if not listener.types or listener.types[event.type] then
      if listener.text then
        line = line or M.line(self.node, event, time)
        if line then send(self, listener, line .. "\n") end
      else
        object = object or M.describe(event, time)
        if object then send(self, listener, json.encode(object) .. "\n") end
      end
    end
  end
end

--- Adds a listener: its answer's body.
---@param options {types: table<string, true>?, text: boolean?}
---@return peerup.http_feed? feed, string? why
function Hub:listen(options)
  if self.count >= M.LISTENERS_MAX then
    return nil, ("%d programs listen to events already"):format(self.count)
  end
  local listener = { feed = core.http.feed(M.QUEUE_BYTES), types = options.types,
    text = options.text }
  self.listeners[listener] = true
  self.count = self.count + 1
  if self.count == 1 then
    self.off = self.node:on_event(function(event) self:tell(event) end)
    self.node:listen_decisions(1)
    self.timer = uv.new_timer()
    self.timer:start(M.KEEP_ALIVE_MS, M.KEEP_ALIVE_MS, function()
      for one in pairs(self.listeners) do send(self, one, "\n") end
    end)
    self.timer:unref()
  end
  return listener.feed
end

return M
