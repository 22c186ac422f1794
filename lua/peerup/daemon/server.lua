--- The daemon's HTTP API on a unix socket: cookie, routing, envelopes (daemon-api.md 1 and 2).
-- What the endpoints say is in routes.lua; the HTTP itself is a library's (bindings).
local core = require "peerup.core"
local err = require "peerup.err"
local fs = require "peerup.fs"
local json = require "peerup.json"
local uv = require "luv"

local M = {}

M.SOCKET, M.COOKIE = "peerup.sock", ".daemon-cookie"
M.MAX_BODY = 1048576
M.MAX_CONNS = 64
M.TIMEOUT_S = 60
M.STYLE = { bare = false, unauthorized = "unauthorized: invalid or missing auth token" }
local PROBE_MS = 2000
local COOKIE_BYTES = 32

--- Where socket and cookie are: in the directory that context:runtime_dir names.
---@param dir string
---@return {socket: string, cookie: string}
function M.paths(dir)
  return { socket = fs.join(dir, M.SOCKET), cookie = fs.join(dir, M.COOKIE) }
end

--- Tells whether somebody answers on a socket.
---@async
---@return boolean
function M.is_alive(socket)
  if not fs.exists(socket) then return false end
  local alive = core.task.await(function(resume)
    local pipe, timer = uv.new_pipe(false), uv.new_timer()
    local function close()
      if not pipe:is_closing() then pipe:close() end
      if not timer:is_closing() then timer:close() end
    end
    timer:start(PROBE_MS, 0, function()
      close()
      resume(true) -- connected to nobody, but not refused either: it is somebody's
    end)
    pipe:connect(socket, function(problem)
      local is_ours = not timer:is_closing()
      close()
      if is_ours then resume(problem == nil) end
    end)
    return close
  end)
  return alive == true
end

--- Refuses when a daemon answers on the socket; removes what a dead one left.
---@async
---@param what string?  what to say then
---@return true?, peerup.err?
function M.claim(paths, what)
  if M.is_alive(paths.socket) then
    return nil, err.say("address_in_use", ("%s: socket %s is already in use"):format(
      what or "daemon already running", paths.socket))
  end
  for _, path in pairs(paths) do
    if uv.fs_lstat(path) then
      local ok, problem = fs.remove(path)
      if not ok then return nil, problem end
    end
  end
  return true
end

local function json_answer(status, value)
  return status, { ["Content-Type"] = "application/json" }, json.encode(value) .. "\n"
end

local function error_answer(status, text)
  return json_answer(status, json.object("error", text))
end

local function plain_answer(status, text, headers)
  headers = headers or {}
  headers["Content-Type"] = "text/plain; charset=utf-8"
  headers["X-Content-Type-Options"] = "nosniff"
  return status, headers, text .. "\n"
end

--- Tells whether the answer shall be text: the query says so, or text/plain stands in Accept.
local function wants_text(request)
  local query = request.query
  local format = type(query) == "table" and query.format
    or type(query) == "string" and ("&" .. query .. "&"):match("&format=([^&]*)&")
  local headers = request.headers or {}
  local accept = headers.accept or headers.Accept or ""
  return format == "text" or accept:find("text/plain", 1, true) ~= nil
end

--- Turns "/v1/auth/{peer_id}" into a Lua pattern.
local function pattern_of(path)
  return "^" .. path:gsub("[%-%.%+]", "%%%0"):gsub("{[%w_]+}", "([^/]+)") .. "$"
end

--- Compiles the route table: "GET /v1/status" = { run = fn, text = fn? }.
---@param table_of_routes table<string, {run: function, text: function?}>
function M.compile(table_of_routes)
  local by_path = {}
  for key, route in pairs(table_of_routes) do
    local method, path = key:match("^(%u+) (.+)$")
    local entry = by_path[path] or { pattern = pattern_of(path), methods = {} }
    entry.methods[method] = route
    by_path[path] = entry
  end
  return by_path
end

local function find(compiled, path)
  for _, entry in pairs(compiled) do
    local first, second = path:match(entry.pattern)
    if first then return entry, first ~= path and first or nil, second end
  end
end

local function allowed_methods(entry)
  local list = {}
  for method in pairs(entry.methods) do
    list[#list + 1] = method
    if method == "GET" then list[#list + 1] = "HEAD" end
  end
  table.sort(list)
  return table.concat(list, ", ")
end

--- Answers one request: pure but for what the route does.
---@async
---@param compiled table    from compile
---@param state table       handed to the routes
---@param cookie string
---@param request {method: string, path: string, query: any, headers: table, body: string}
---@param style {bare: boolean, unauthorized: string}?  bare: values without the data envelope
---@return integer status, table headers, string|peerup.http_feed body
function M.answer(compiled, state, cookie, request, style)
  style = style or M.STYLE
  local uid, own = request.uid, uv.getuid()
  if uid and uid ~= own and uid ~= 0 then -- whoever got hold of the cookie
    return error_answer(403, "forbidden: the daemon serves its own user's programs")
  end
  local headers = request.headers or {}
  local authorization = headers.authorization or headers.Authorization or ""
  if not core.crypto.equal(authorization, "Bearer " .. cookie) then
    return error_answer(401, style.unauthorized)
  end
  local entry, parameter = find(compiled, request.path)
  if not entry then return plain_answer(404, "404 page not found") end
  local route = entry.methods[request.method]
    or request.method == "HEAD" and entry.methods.GET
  if not route then
    return plain_answer(405, "Method Not Allowed", { Allow = allowed_methods(entry) })
  end
  if route.stream then
    local text = wants_text(request)
    local feed, why, status = route.stream(state, request, text)
    if not feed then return error_answer(status, why) end
    return 200, { ["Content-Type"] = text and "text/plain" or "application/x-ndjson",
      ["Cache-Control"] = "no-store" }, feed
  end
  local data, problem, more = route.run(state, request, parameter)
  if data == nil then return error_answer(more or 500, tostring(problem)) end
  if route.text and wants_text(request) then
    return 200, { ["Content-Type"] = "text/plain" }, route.text(data, state, more)
  end
  return json_answer(200, style.bare and data or json.object("data", data))
end

---@class peerup.daemon_server
local Server = {}
Server.__index = Server

--- Starts to serve. The paths must have been claimed.
---@param options {paths: table, state: table, routes: table, on_request: fun(event: table)?,
---  style: table?, max_body: integer?, max_conns: integer?, timeout: integer?}
---@return peerup.daemon_server? server, peerup.err?
function M.start(options)
  local compiled = M.compile(options.routes)
  local cookie = core.crypto.random(COOKIE_BYTES):gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end)
  local http, problem = core.http.serve({ path = options.paths.socket,
    max_body = options.max_body or M.MAX_BODY, max_conns = options.max_conns or M.MAX_CONNS,
    timeout = options.timeout or M.TIMEOUT_S }, function(request)
    local from = uv.hrtime()
    local status, headers, body = M.answer(compiled, options.state, cookie, request,
      options.style)
    if options.on_request then
      options.on_request { type = "request", method = request.method, path = request.path,
        status = status, seconds = (uv.hrtime() - from) / 1e9 }
    end
    return status, headers, body
  end)
  if not http then return nil, problem end
  local ok
  ok, problem = fs.write(options.paths.cookie, cookie)
  if not ok then
    http:close()
    return nil, problem
  end
  return setmetatable({ http = http, paths = options.paths }, Server)
end

--- Stops serving and removes socket and cookie.
function Server:close()
  if not self.http then return end
  self.http:close()
  self.http = nil
  for _, path in pairs(self.paths) do
    if uv.fs_lstat(path) then fs.remove(path) end
  end
end
Server.__close = Server.close

return M
