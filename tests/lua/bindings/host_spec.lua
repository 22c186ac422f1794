local core = require "peerup.core"
package.path = os.getenv "PEERUP_SOURCE" .. "/tests/support/?.lua;" .. package.path
local hosts = require "hosts"

local task = core.task
local eventually = hosts.eventually

local STRANGER = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"

describe("core.host", function()
  it("checks its options", function()
    local key = core.identity.generate()
    for _, options in ipairs {
      {}, { identity = key }, { identity = key, policy = 1 }, { policy = hosts.allow },
      { identity = key, policy = hosts.allow, on_event = 1 },
      { identity = key, policy = hosts.allow, log_level = "loud" },
      { identity = key, policy = hosts.allow, limits = { conns = 1 } },
      { identity = key, policy = hosts.allow, limits = { conns_total = -1 } },
      { identity = key, policy = hosts.allow, limits = { conns_total = 1 << 40 } },
      { identity = key, policy = hosts.allow, limits = { conns_total = "many" } },
    } do
      assert.has_error(function()
        core.host(options)
      end)
    end
    local host, err = core.host { identity = "no key", policy = hosts.allow }
    assert.is_nil(host)
    assert.is_string(err.code)
  end)

  it("has the peer ID of its key, and addresses", async(function()
    local key = core.identity.generate()
    local host <close> = hosts.new { identity = key, listen = false }
    assert.equal(core.identity.peer_id(key), host:peer_id())
    assert.same({}, host:addrs())
    assert.is_true(host:listen("/ip4/127.0.0.1/tcp/0"))
    assert.matches("^/ip4/127.0.0.1/tcp/%d+", host:addrs()[1])
    assert.is_true(host:memory() > 0)
  end))

  it("says why it cannot listen", async(function()
    local host <close> = hosts.new()
    local port = host:addrs()[1]:match("/tcp/(%d+)")
    local other <close> = hosts.new { listen = false }
    local ok, err = other:listen("/ip4/127.0.0.1/tcp/" .. port)
    assert.is_nil(ok)
    assert.equal("address_in_use", err.code)
    ok, err = other:listen("nonsense")
    assert.is_nil(ok)
    assert.is_string(err.code)
  end))

  it("connects, tells of it, and disconnects", async(function()
    local events = {}
    local function record(event)
      if event.conn then
        events[#events + 1] = event.type
      end
    end
    local a, b = hosts.pair({ on_event = record }, {})
    local _ <close> = a
    local _ <close> = b
    local conn = assert(a:connect(b:peer_id(), { timeout = 5 }))
    assert.equal(b:peer_id(), conn.peer)
    assert.is_true(conn.outbound)
    assert.is_false(conn.relayed)
    assert.equal("tcp", conn.transport)
    assert.matches("^/ip4/127.0.0.1/tcp/", conn.addr)
    assert.equal(conn.id, assert(a:connect(b:peer_id())).id)
    assert.equal(conn.id, a:best_conn(b:peer_id()).id)
    assert.equal(1, #a:conns())
    eventually(function()
      return #b:conns() == 1
    end)
    assert.is_false(b:conns()[1].outbound)
    eventually(function()
      return a:conns()[1].identified
    end, "identified")
    assert.is_true(#a:peer_protocols(b:peer_id()) > 0)
    assert.is_true(a:protect(b:peer_id(), true))
    assert.equal(1, a:disconnect(b:peer_id()))
    assert.is_nil(a:best_conn(b:peer_id()))
    eventually(function()
      return #b:conns() == 0
    end)
    assert.equal("connected", events[1])
    eventually(function()
      return events[#events] == "disconnected"
    end)
  end))

  it("closes one connection", async(function()
    local a, b = hosts.pair()
    local _ <close> = a
    local _ <close> = b
    local conn = assert(a:connect(b:peer_id()))
    assert.is_true(a:close_conn(conn.id))
    assert.is_false(a:close_conn(conn.id))
    assert.is_false(a:close_conn(12345))
  end))

  it("says why a peer is not reached", async(function()
    local host <close> = hosts.new()
    local conn, err = host:connect(STRANGER)
    assert.is_nil(conn)
    assert.equal("no_address", err.code)
    assert(host:add_addr(STRANGER, "/ip4/127.0.0.1/tcp/1"))
    assert.same({ "/ip4/127.0.0.1/tcp/1" }, host:known_addrs(STRANGER))
    conn, err = host:connect(STRANGER, { timeout = 5 })
    assert.is_nil(conn)
    assert.matches("127.0.0.1", tostring(err), 1, true)
    local ok
    ok, err = host:add_addr(STRANGER, "nonsense")
    assert.is_nil(ok)
    assert.is_string(err.code)
  end))

  it("takes only peer IDs", async(function()
    local host <close> = hosts.new()
    for _, name in ipairs { "connect", "disconnect", "best_conn", "known_addrs", "ping",
      "peer_protocols", "protect", "unreserve" } do
      local value, err = host[name](host, "home", true)
      assert.is_nil(value)
      assert.equal("malformed", err.code, name)
      assert.matches("home", tostring(err))
    end
    assert.has_error(function()
      host:connect(STRANGER, 5)
    end)
    assert.has_error(function()
      host:connect(STRANGER, { timeout = "soon" })
    end)
    assert.has_error(function()
      host:connect(STRANGER, { timeout = -1 })
    end)
  end))

  it("throws when it should wait outside a task", async(function()
    local host <close> = hosts.new()
    local ok, problem = pcall(coroutine.wrap(function()
      host:connect(STRANGER)
    end))
    assert.is_false(ok)
    assert.matches("call this inside a task", problem)
  end))

  it("measures a round trip", async(function()
    local a, b = hosts.pair()
    local _ <close> = a
    local _ <close> = b
    local seconds = assert(a:ping(b:peer_id(), { timeout = 5 }))
    assert.is_true(seconds > 0 and seconds < 5)
  end))

  it("cancels what a task waits for", async(function()
    -- A listener that never answers: the handshake would last 15 s.
    local uv = require "luv"
    local silent = assert(uv.new_tcp())
    assert(silent:bind("127.0.0.1", 0))
    assert(silent:listen(5, function() end))
    local host <close> = hosts.new()
    assert(host:add_addr(STRANGER, "/ip4/127.0.0.1/tcp/" .. silent:getsockname().port))
    local outcome
    local t = task.spawn(function()
      outcome = table.pack(host:connect(STRANGER))
    end)
    task.sleep(0.05)
    t:cancel()
    assert(t:join())
    assert.is_nil(outcome[1])
    assert.equal("canceled", outcome[2].code)
    local _, err = host:connect(STRANGER, { timeout = 0.05 })
    assert.is_true(err.code == "timeout" or err.code == "unreachable" or err.code == "backoff",
      err.code)
    silent:close()
  end))

  it("ends what waits when it is closed", async(function()
    local uv = require "luv"
    local silent = assert(uv.new_tcp())
    assert(silent:bind("127.0.0.1", 0))
    assert(silent:listen(5, function() end))
    local host = hosts.new()
    assert(host:add_addr(STRANGER, "/ip4/127.0.0.1/tcp/" .. silent:getsockname().port))
    local problem
    local t = task.spawn(function()
      local _
      _, problem = host:connect(STRANGER)
    end)
    task.sleep(0.02)
    host:close()
    assert(t:join())
    assert.is_string(problem.code)
    silent:close()
  end))

  it("answers nil, closed after close", async(function()
    local host = hosts.new()
    host:close()
    host:close()
    assert.equal("peerup.host (closed)", tostring(host))
    for name in pairs(debug.getregistry()["peerup.host"].__index) do
      if name ~= "close" then
        local value, err = host[name](host, STRANGER, "/x", "/y")
        assert.is_nil(value, name)
        assert.equal("closed", err.code, name)
      end
    end
  end))

  it("waits until it is closed, in a task", async(function()
    local host = hosts.new()
    local addr = host:addrs()[1]
    host:close()
    local again <close> = hosts.new { listen = false }
    assert(again:listen(addr))
  end))

  it("is closed by the collector", async(function()
    local addr
    do
      local host = hosts.new()
      addr = host:addrs()[1]
    end
    local other <close> = hosts.new { listen = false }
    eventually(function()
      collectgarbage()
      return other:listen(addr)
    end)
  end))

  it("throws for other objects", async(function()
    local host <close> = hosts.new()
    assert.has_error(function()
      host.peer_id({})
    end)
    assert.has_error(function()
      host.peer_id(task.current())
    end)
  end))

  it("hands its log to a function", async(function()
    local lines = {}
    local a, b = hosts.pair({ log_level = "debug", on_log = function(...)
      lines[#lines + 1] = { ... }
    end }, {})
    local _ <close> = a
    local _ <close> = b
    assert(a:connect(b:peer_id()))
    assert.is_true(#lines > 0)
    for _, line in ipairs(lines) do
      assert.equal(3, #line)
      assert.is_string(line[3])
    end
    assert.is_true(a:set_log_level("off"))
    local count = #lines
    assert.equal(1, a:disconnect(b:peer_id()))
    assert.equal(count, #lines)
    assert.has_error(function()
      a:set_log_level("loud")
    end)
  end))

  it("keeps an event function's failure to itself", async(function()
    local reported = {}
    task.on_failure(function(text)
      reported[#reported + 1] = text
    end)
    local a, b = hosts.pair({ on_event = function()
      error("bad event function")
    end }, {})
    local _ <close> = a
    local _ <close> = b
    assert(a:connect(b:peer_id()))
    eventually(function()
      return #reported > 0
    end)
    task.on_failure(nil)
    assert.matches("bad event function", reported[1])
  end))

  it("lets an event function call it", async(function()
    local a, b
    local ended
    a, b = hosts.pair({ on_event = function(event)
      if event.type == "connected" then
        a:disconnect(event.conn.peer)
      elseif event.type == "disconnected" then
        a:close()
        ended = true
      end
    end }, {})
    local _ <close> = b
    a:connect(b:peer_id()) -- whose answer may come after the end
    eventually(function()
      return ended
    end)
    assert.equal("peerup.host (closed)", tostring(a))
  end))

  it("can relay, and reserve", async(function()
    local relay <close> = hosts.new()
    assert.has_error(function()
      relay:relay_start { reservations = 1 }
    end)
    assert.is_true(relay:relay_start { max_reservations = 4, session_data_bytes = 1 << 33 })
    assert.same({ reservations = 0, circuits = 0, bytes = 0, refused_reservations = 0,
      refused_circuits = 0, ended_by_limit = 0 }, relay:relay_stats())
    local events = {}
    local home <close> = hosts.new { on_event = function(event)
      events[#events + 1] = event
    end }
    local addr = relay:addrs()[1] .. "/p2p/" .. relay:peer_id()
    assert.is_true(home:reserve(addr, 60))
    local info = eventually(function()
      local list = home:reservations()
      return list[1] and list[1].active and list[1]
    end)
    assert.equal(relay:peer_id(), info.relay)
    assert.is_true(info.expires > os.time())
    assert.equal(1, relay:relay_stats().reservations)
    eventually(function()
      for _, event in ipairs(events) do
        if event.type == "reserved" then
          return event.peer == relay:peer_id()
        end
      end
    end)
    local circuit
    for _, own in ipairs(home:addrs()) do
      circuit = own:match("p2p%-circuit") and own or circuit
    end
    local away <close> = hosts.new()
    assert(away:add_addr(home:peer_id(), assert(circuit)))
    local conn = assert(away:connect(home:peer_id(), { timeout = 5 }))
    assert.is_true(conn.relayed)
    assert.equal("circuit", conn.transport)
    home:unreserve(relay:peer_id())
    assert.same({}, home:reservations())
    relay:relay_stop()
  end))
end)
