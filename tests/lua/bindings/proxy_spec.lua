local core = require "peerup.core"
package.path = os.getenv "PEERUP_SOURCE" .. "/tests/support/?.lua;" .. package.path
local hosts = require "hosts"
local uv = require "luv"

local task = core.task

local PROTOCOL = "/peerup/echo/1.0.0"

--- A TCP server that echoes, and closes after the end of its input. Returns it and its port.
local function echo_server()
  local server = assert(uv.new_tcp())
  assert(server:bind("127.0.0.1", 0))
  assert(server:listen(64, function()
    local client = assert(uv.new_tcp())
    assert(server:accept(client))
    client:read_start(function(_, chunk)
      if chunk then
        client:write(chunk)
      else
        client:shutdown(function()
          if not client:is_closing() then
            client:close()
          end
        end)
      end
    end)
  end))
  return server, server:getsockname().port
end

--- Sends bytes to an address, half-closes, and returns all that comes back.
local function exchange(address, bytes)
  local host, port = address:match("^(.*):(%d+)$")
  return task.await(function(resume)
    local socket = assert(uv.new_tcp())
    local got = {}
    local function done(err)
      if not socket:is_closing() then
        socket:close()
        resume(table.concat(got), err)
      end
    end
    socket:connect(host, tonumber(port), function(err)
      if err then
        return done(err)
      end
      socket:read_start(function(problem, chunk)
        if problem or not chunk then
          return done(problem)
        end
        got[#got + 1] = chunk
      end)
      socket:write(bytes, function()
        if not socket:is_closing() then
          socket:shutdown()
        end
      end)
    end)
    return function()
      done("canceled")
    end
  end)
end

describe("peerup.proxy", function()
  it("carries TCP connections, and counts", async(function()
    local server, port = echo_server()
    local away, home = hosts.pair()
    local _ <close> = away
    local _ <close> = home
    local events, listen_events = {}, {}
    local exposed = assert(home:proxy_expose(PROTOCOL, "127.0.0.1:" .. port, function(p, event)
      events[#events + 1] = { p, event }
    end))
    local proxy <close> = assert(away:proxy_listen("127.0.0.1:0", home:peer_id(), PROTOCOL,
      function(_, event)
        listen_events[#listen_events + 1] = event
      end))
    assert.equal("127.0.0.1:" .. port, exposed:address())
    assert.matches("^127.0.0.1:%d+$", proxy:address())
    local bytes = core.crypto.random(50000)
    assert.is_true(bytes == exchange(proxy:address(), bytes))
    hosts.eventually(function()
      return proxy:stats().active == 0 and exposed:stats().active == 0
    end)
    assert.same({ connections = 1, active = 0, bytes_in = 50000, bytes_out = 50000, failures = 0 },
      proxy:stats())
    hosts.eventually(function()
      return #events == 2 and #listen_events == 2
    end)
    assert.equal(exposed, events[1][1])
    assert.is_true(events[1][2].opened)
    assert.equal(away:peer_id(), events[1][2].peer)
    assert.is_false(events[2][2].opened)
    assert.equal(50000, events[2][2].bytes_in)
    assert.equal(50000, events[2][2].bytes_out)
    assert.is_true(events[2][2].duration_us > 0)
    server:close()
  end))

  it("lives on when its object is dropped, until it is closed", async(function()
    local server, port = echo_server()
    local away, home = hosts.pair()
    local _ <close> = away
    local _ <close> = home
    assert(home:proxy_expose(PROTOCOL, "127.0.0.1:" .. port))
    local proxy = assert(away:proxy_listen("127.0.0.1:0", home:peer_id(), PROTOCOL))
    local address = proxy:address()
    collectgarbage()
    collectgarbage()
    assert.equal("ping", (exchange(address, "ping")))
    proxy:close()
    proxy:close()
    assert.equal("peerup.proxy (closed)", tostring(proxy))
    for _, name in ipairs { "address", "stats" } do
      local value, err = proxy[name](proxy)
      assert.is_nil(value)
      assert.equal("closed", err.code)
    end
    local _, err = exchange(address, "ping")
    assert.matches("ECONNREFUSED", tostring(err))
    server:close()
  end))

  it("is closed with its host", async(function()
    local away, home = hosts.pair()
    local proxy = assert(away:proxy_listen("127.0.0.1:0", home:peer_id(), PROTOCOL))
    local address = proxy:address()
    away:close()
    assert.equal("peerup.proxy (closed)", tostring(proxy))
    local _, err = exchange(address, "ping")
    assert.matches("ECONNREFUSED", tostring(err))
    home:close()
  end))

  it("tells of a service that cannot be reached", async(function()
    local away, home = hosts.pair()
    local _ <close> = away
    local _ <close> = home
    local failed
    assert(home:proxy_expose(PROTOCOL, "127.0.0.1:1", function(_, event)
      failed = event
    end))
    local proxy = assert(away:proxy_listen("127.0.0.1:0", home:peer_id(), PROTOCOL))
    assert.equal("", (exchange(proxy:address(), "ping")))
    hosts.eventually(function()
      return failed
    end)
    assert.is_string(failed.code)
  end))

  it("says why it cannot be made", async(function()
    local host <close> = hosts.new()
    local proxy = assert(host:proxy_listen("127.0.0.1:0", host:peer_id(), PROTOCOL))
    local other, err = host:proxy_listen(proxy:address(), host:peer_id(), PROTOCOL)
    assert.is_nil(other)
    assert.equal("address_in_use", err.code)
    assert(host:proxy_expose(PROTOCOL, "127.0.0.1:9"))
    other, err = host:proxy_expose(PROTOCOL, "127.0.0.1:9")
    assert.is_nil(other)
    assert.equal("exists", err.code)
    other, err = host:proxy_listen("nonsense", host:peer_id(), PROTOCOL)
    assert.is_nil(other)
    assert.is_string(err.code)
    other, err = host:proxy_listen("127.0.0.1:0", "home", PROTOCOL)
    assert.is_nil(other)
    assert.equal("malformed", err.code)
    assert.has_error(function()
      host:proxy_expose(PROTOCOL, "127.0.0.1:9", 1)
    end)
  end))
end)
