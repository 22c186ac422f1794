local core = require "peerup.core"
local client = require "peerup.daemon.client"
local events = require "peerup.daemon.events"
local json = require "peerup.json"
local server = require "peerup.daemon.server"
local uv = require "luv"
local fs = require "peerup.fs"

local task = core.task
local PEER = "12D3KooWNQEpehHdB5VrF2dmxY7ssQLCPwMt75AWjb8cEZfCVyYG"

--- A bus without a node, served as the daemon serves it.
local function serve()
  local dir = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/peerup-events-XXXXXX"))
  local node = { names = { laptop = PEER }, listeners = {}, decisions = 0, warnings = 0 }
  node.log = { warn = function() node.warnings = node.warnings + 1 end }
  function node:on_event(fn)
    self.listeners[fn] = true
    return function() self.listeners[fn] = nil end
  end
  function node:listen_decisions(change) self.decisions = self.decisions + change end
  function node:dispatch(event)
    for fn in pairs(self.listeners) do fn(event) end
  end
  local paths, state = server.paths(dir), { node = node }
  local running = assert(server.start { paths = paths, state = state,
    routes = require("peerup.daemon.routes.events") })
  local function close()
    running:close()
    uv.fs_rmdir(dir)
  end
  return { node = node, dir = dir, paths = paths, state = state, server = running, close = close }
end

local function eventually(fn, what)
  for _ = 1, 500 do
    if fn() then return end
    task.sleep(0.01)
  end
  error("never: " .. what, 2)
end

--- Follows a path in a task of its own; returns the lines and the task.
local function follow(t, path)
  local lines = {}
  local one = assert(client.new(t.dir))
  local before = t.state.events and t.state.events.count or 0
  local work = task.spawn(function()
    return one:follow(path, function(line) lines[#lines + 1] = line end)
  end)
  eventually(function() return t.state.events and t.state.events.count > before end, "a listener")
  return lines, work
end

describe("GET /v1/events", function()
  it("tells each event once, in order, as an object on a line", async(function()
    local t = serve()
    local lines, work = follow(t, "/v1/events")
    assert.equal(1, t.node.decisions)
    t.node:dispatch { type = "auth_change", action = "add", peer = PEER }
    t.node:dispatch { type = "request", method = "GET" } -- not one that is told
    t.node:dispatch { type = "exposed", service = "ssh", local_address = "localhost:22" }
    eventually(function() return #lines == 2 end, "two lines")
    local first, second = json.decode(lines[1]), json.decode(lines[2])
    assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$", first.time)
    assert.equal("auth_change", first.type)
    assert.equal(PEER, first.data.peer)
    assert.equal("ssh", second.data.service)
    t.close()
    local _, ok = work:join()
    assert.is_true(ok) -- the daemon's end is the end
  end))

  it("tells only the types asked for, and as lines for people", async(function()
    local t = serve()
    local lines, work = follow(t, "/v1/events?types=decision,exposed&format=text")
    t.node:dispatch { type = "auth_change", action = "add" }
    t.node:dispatch { type = "decision", ask = "stream", allowed = false, peer = PEER,
      service = "ssh", why = "not today" }
    eventually(function() return #lines == 1 end, "a line")
    assert.matches("DENIED stream of service ssh to laptop: not today$", lines[1])
    work:cancel()
    work:join()
    t.close()
  end))

  it("refuses unknown types, and more listeners than there may be", async(function()
    local t = serve()
    local one = assert(client.new(t.dir))
    local ok, problem = one:follow("/v1/events?types=decisoin", error)
    assert.is_nil(ok)
    assert.matches('did you mean "decision"?', problem.message, 1, true)
    local works = {}
    for i = 1, events.LISTENERS_MAX do
      local _, work = follow(t, "/v1/events")
      works[i] = work
    end
    ok, problem = one:follow("/v1/events", error)
    assert.is_nil(ok)
    assert.matches("listen to events already", problem.message)
    for _, work in ipairs(works) do work:cancel() end
    t.close()
  end))

  it("finds out who has gone, and stops listening to the bus", async(function()
    local t = serve()
    local _, work = follow(t, "/v1/events")
    work:cancel()
    work:join()
    eventually(function()
      t.node:dispatch { type = "addresses" }
      return t.state.events.count == 0
    end, "nobody left")
    assert.is_nil(next(t.node.listeners))
    assert.equal(0, t.node.decisions)
    t.close()
  end))

  it("cuts off a listener that does not read, and the others see all", async(function()
    local t = serve()
    local lines = follow(t, "/v1/events?types=exposed")
    local pipe = assert(uv.new_pipe(false)) -- it asks, and never reads
    local cookie = assert(fs.read(t.paths.cookie))
    pipe:connect(t.paths.socket, function()
      pipe:write("GET /v1/events HTTP/1.1\r\nHost: d\r\nAuthorization: Bearer " .. cookie
        .. "\r\n\r\n")
    end)
    eventually(function() return t.state.events.count == 2 end, "both")
    local sent = 0
    while t.state.events.count == 2 and sent < 20000 do
      t.node:dispatch { type = "exposed", service = ("s"):rep(200), local_address = "x:1" }
      sent = sent + 1
      if sent % 50 == 0 then task.sleep(0.001) end
    end
    assert.equal(1, t.state.events.count)
    assert.equal(1, t.node.warnings)
    assert.is_true(sent * 250 < 8 * events.QUEUE_BYTES, "it was let wait: " .. sent)
    eventually(function() return #lines == sent end, "all lines")
    pipe:close()
    t.close()
  end))

  it("has a line and an object for every type", function()
    local node = { names = {} }
    local conn = { peer = PEER, addr = "/ip4/192.0.2.1/tcp/1", relayed = true, agent = "x",
      outbound = true }
    for _, name in ipairs(events.TYPES) do
      local event = { type = name, conn = conn, peer = PEER, service = "a", local_address = "b",
        action = "add", ask = "dial", path = "DIRECT", before = "RELAYED", seconds = 1,
        detail = "d", code = "c", opened = false, bytes_in = 1, bytes_out = 2 }
      assert.is_string(events.line(node, event, "now"))
      assert.is_table(json.decode(json.encode(events.describe(event, "now"))))
    end
    assert.is_nil(events.line(node, { type = "request" }, "now"))
  end)
end)
