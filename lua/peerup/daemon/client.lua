--- The CLI's side of the daemon's API: one request per connection over the unix socket.
local core = require "peerup.core"
local err = require "peerup.err"
local fs = require "peerup.fs"
local json = require "peerup.json"
local server = require "peerup.daemon.server"
local uv = require "luv"

local M = {}

M.MAX_ANSWER = 16 * 1024 * 1024

---@class peerup.daemon_client
local Client = {}
Client.__index = Client

--- Makes a client for the daemon whose socket is in a directory.
---@param dir string
---@return peerup.daemon_client? client, peerup.err?
function M.new(dir)
  return M.open(server.paths(dir), { what = "daemon", absent = "daemon not running" })
end

--- Makes a client for whatever serves so.
---@param paths {socket: string, cookie: string}
---@param options {what: string, absent: string, bare: boolean?}
--- What serves there, and what to say when it does not; bare: answers without the data envelope.
---@return peerup.daemon_client? client, peerup.err?
function M.open(paths, options)
  local cookie = fs.exists(paths.socket) and fs.read(paths.cookie)
  if not cookie then
    return nil, err.say("not_found", ("%s: %s"):format(options.absent, paths.socket))
  end
  return setmetatable({ paths = paths, cookie = cookie, what = options.what,
    absent = options.absent, bare = options.bare }, Client)
end

--- Sends bytes and reads until the other side closes; take gets what comes, else it is returned.
local function exchange(self, bytes, take)
  local socket, what = self.paths.socket, self.what
  return core.task.await(function(resume)
    local pipe = uv.new_pipe(false)
    local parts, size = {}, 0
    local function finish(...)
      if pipe:is_closing() then return end
      pipe:close()
      resume(...)
    end
    pipe:connect(socket, function(problem)
      if problem then
        return finish(nil, err.say("connection_refused", ("%s: %s"):format(self.absent, socket)))
      end
      pipe:write(bytes)
      pipe:read_start(function(failure, chunk)
        if failure then
          finish(nil, err.say("io_error", ("the %s broke off: %s"):format(what, failure)))
        elseif not chunk then
          finish(table.concat(parts))
        elseif take then
          take(chunk)
        else
          size = size + #chunk
          parts[#parts + 1] = chunk
          if size > M.MAX_ANSWER then finish(nil, err.say("limit", "the answer is too long")) end
        end
      end)
    end)
    return function() if not pipe:is_closing() then pipe:close() end end
  end)
end

--- Undoes chunked transfer encoding.
local function unchunk(body)
  local parts, at = {}, 1
  while true do
    local size, stop = body:match("^(%x+)[^\r\n]*\r\n()", at)
    local n = size and tonumber(size, 16)
    if not n or n == 0 then return table.concat(parts) end
    parts[#parts + 1] = body:sub(stop, stop + n - 1)
    at = stop + n + 2
  end
end

--- Makes one request.
---@async
---@return {status: integer, body: string}? answer, peerup.err?
function Client:request(method, path, body)
  local lines = {
    ("%s %s HTTP/1.1"):format(method, path), "Host: daemon", "Connection: close",
    "Authorization: Bearer " .. self.cookie, "Content-Length: " .. #(body or ""), "", body or "",
  }
  local answer, problem = exchange(self, table.concat(lines, "\r\n"))
  if not answer then return nil, problem end
  local head, rest = answer:match("^(.-\r\n)\r\n(.*)$")
  local status = head and head:match("^HTTP/1%.%d (%d%d%d)")
  if not status then
    return nil, err.say("protocol_error", ("the %s's answer is no HTTP"):format(self.what))
  end
  if head:lower():find("\r\ntransfer%-encoding: *chunked") then rest = unchunk(rest) end
  return { status = tonumber(status), body = rest }
end

--- Reads the answer of a stream: on_line gets each line of its body as it comes.
local function follower(on_line)
  local raw, body, status = "", "", nil
  return function(chunk)
    raw = raw .. chunk
    if not status then
      local head, rest = raw:match("^(.-\r\n)\r\n(.*)$")
      if not head then return end
      status, raw = tonumber(head:match("^HTTP/1%.%d (%d%d%d)")), rest
    end
    while true do -- chunks of the transfer encoding
      local size, from = raw:match("^(%x+)[^\r\n]*\r\n()")
      local n = size and tonumber(size, 16)
      if status ~= 200 or not n or #raw < from + n + 1 then break end
      body, raw = body .. raw:sub(from, from + n - 1), raw:sub(from + n + 2)
    end
    while true do
      local line, rest = body:match("^([^\n]*)\n(.*)$")
      if not line then break end
      body = rest
      on_line(line)
    end
  end, function()
    return status, raw
  end
end

--- Listens to an endpoint that goes on; returns when the daemon ends it or the task is cancelled.
---@async
---@param path string
---@param on_line fun(line: string)
---@return true?, peerup.err?
function Client:follow(path, on_line)
  local take, state = follower(on_line)
  local ok, problem = exchange(self, table.concat({
    ("GET %s HTTP/1.1"):format(path), "Host: daemon", "Connection: close",
    "Authorization: Bearer " .. self.cookie, "", "" }, "\r\n"), take)
  if not ok then return nil, problem end
  local status, rest = state()
  if status == 200 then return true end
  local decoded = json.decode(rest)
  return nil, err.say("io_error", self.what .. ": " .. tostring(decoded and decoded.error or rest))
end

--- Makes one request and returns the answer's data.
---@async
---@return any? data, peerup.err?
function Client:call(method, path, value)
  local answer, problem = self:request(method, path, value and json.encode(value))
  if not answer then return nil, problem end
  local decoded = json.decode(answer.body)
  if answer.status ~= 200 or type(decoded) ~= "table" then
    return nil, err.say("io_error", self.what .. ": " .. tostring(type(decoded) == "table"
      and decoded.error or answer.body))
  end
  if self.bare then return decoded end
  return decoded.data
end

return M
