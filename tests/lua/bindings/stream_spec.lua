local core = require "peerup.core"
package.path = os.getenv "PEERUP_SOURCE" .. "/tests/support/?.lua;" .. package.path
local hosts = require "hosts"

local task = core.task

local PROTOCOL = "/test/1.0.0"

describe("peerup.stream", function()
  local a, b

  --- Serves PROTOCOL with fn on b and opens a stream from a.
  local function open(fn, options)
    b:handle(PROTOCOL, nil)
    assert(b:handle(PROTOCOL, fn))
    return assert(a:open_stream(b:peer_id(), PROTOCOL, options))
  end

  --- Makes a test of f with two hosts that are closed behind it.
  local function test(f)
    return async(function()
      a, b = hosts.pair()
      local _ <close> = a
      local _ <close> = b
      f()
    end)
  end

  it("carries bytes both ways, to the end", test(function()
    local conn, peer, protocol
    local stream <close> = open(function(s)
      conn, peer, protocol = s:conn(), s:peer(), s:protocol()
      while true do
        local bytes, err = s:read()
        assert(not err)
        if not bytes then
          break
        end
        assert(s:write(bytes:upper()))
      end
      assert(s:write("END"))
    end)
    assert.equal(b:peer_id(), stream:peer())
    assert.equal(PROTOCOL, stream:protocol())
    assert.equal(b:peer_id(), stream:conn().peer)
    assert.is_true(stream:write("hello "))
    assert.equal("HELLO", stream:read_exactly(5))
    assert.is_true(stream:write("world"))
    assert.is_true(stream:close_write())
    assert.is_true(stream:close_write())
    local rest = {}
    while true do
      local bytes, err = stream:read()
      assert.is_nil(err)
      if not bytes then
        break
      end
      rest[#rest + 1] = bytes
    end
    assert.equal(" WORLDEND", table.concat(rest))
    assert.same({ n = 1 }, table.pack(stream:read()))
    assert.equal(a:peer_id(), peer)
    assert.equal(PROTOCOL, protocol)
    assert.equal(a:peer_id(), conn.peer)
  end))

  it("reads as much as was asked for", test(function()
    local stream <close> = open(function(s)
      s:write("abcdefghij")
    end)
    assert.equal("abc", stream:read_exactly(3))
    assert.equal("", stream:read_exactly(0))
    assert.equal("de", stream:read(2))
    assert.equal("fghij", stream:read(100))
    local bytes, err = stream:read_exactly(1)
    assert.is_nil(bytes)
    assert.equal("eof", err.code)
  end))

  it("says how far an exact read came", test(function()
    local stream <close> = open(function(s)
      s:write("abc")
    end)
    local bytes, err = stream:read_exactly(5)
    assert.is_nil(bytes)
    assert.equal("eof", err.code)
    assert.matches("after 3 of 5 bytes", tostring(err))
    assert.equal("abc", stream:read())
    assert.is_nil((stream:read()))
  end))

  it("holds back a sender whose reader is slow", test(function()
    local written, total = 0, 8 << 20
    local piece = ("x"):rep(1 << 16)
    local stream <close> = open(function(s)
      while written < total do
        assert(s:write(piece))
        written = written + #piece
      end
    end)
    task.sleep(0.3)
    assert.is_true(written < total, "all was taken: " .. written)
    local got = 0
    while true do
      local bytes, err = stream:read(1 << 20)
      assert.is_nil(err)
      if not bytes then
        break
      end
      got = got + #bytes
    end
    assert.equal(total, got)
  end))

  it("reads a mebibyte exactly", test(function()
    local stream <close> = open(function(s)
      assert(s:write(("0123456789abcdef"):rep(1 << 17)))
    end)
    task.sleep(0.1)
    local half = assert(stream:read_exactly(1 << 20))
    assert.equal(1 << 20, #half)
    assert.equal(half, stream:read_exactly(1 << 20))
    assert.is_nil((stream:read()))
  end))

  it("gives up after a time, and goes on", test(function()
    local stream <close> = open(function(s)
      task.sleep(0.2)
      s:write("late")
    end)
    local bytes, err = stream:read(10, 0.02)
    assert.is_nil(bytes)
    assert.equal("timeout", err.code)
    assert.equal("late", stream:read(10, 5))
  end))

  it("gives up writing after a time", test(function()
    local stream <close> = open(function(s)
      task.sleep(1)
      s:read()
    end)
    local ok, err
    repeat
      ok, err = stream:write(("x"):rep(1 << 20), 0.05)
    until not ok
    assert.equal("timeout", err.code)
  end))

  it("is cancelled with its task", test(function()
    local stream <close> = open(function(s)
      s:read()
    end)
    local problem
    local t = task.spawn(function()
      local _
      _, problem = stream:read()
    end)
    t:cancel()
    assert(t:join())
    assert.equal("canceled", problem.code)
  end))

  it("takes one reader and one writer at a time", test(function()
    local stream <close> = open(function(s)
      task.sleep(0.3)
      s:write("x")
    end)
    local t = task.spawn(function()
      return stream:read()
    end)
    local ok, problem = pcall(stream.read, stream)
    assert.is_false(ok)
    assert.matches("another task reads", problem)
    local big = ("x"):rep(4 << 20)
    local writer = task.spawn(function()
      return stream:write(big)
    end)
    ok, problem = pcall(stream.write, stream, "y")
    assert.is_false(ok)
    assert.matches("another task writes", problem)
    ok, problem = pcall(stream.close_write, stream)
    assert.is_false(ok)
    assert.matches("another task writes", problem)
    assert.same({ true, "x" }, { t:join() })
    stream:close()
    local _, value, err = writer:join()
    assert.is_nil(value)
    assert.is_string(err.code)
  end))

  it("ends a wait when it is closed", test(function()
    local stream = open(function(s)
      s:read()
    end)
    local problem
    local t = task.spawn(function()
      local _
      _, problem = stream:read()
    end)
    stream:close()
    stream:close()
    assert(t:join())
    assert.equal("closed", problem.code)
    for _, name in ipairs { "read", "read_exactly", "write", "close_write", "conn" } do
      local value, err = stream[name](stream, name == "write" and "x" or 1)
      assert.is_nil(value)
      assert.equal("closed", err.code, name)
    end
    assert.equal(PROTOCOL, stream:protocol())
    assert.equal(b:peer_id(), stream:peer())
    assert.equal("peerup.stream (closed)", tostring(stream))
    stream:reset()
  end))

  it("tells of a reset", test(function()
    local stream <close> = open(function(s)
      s:write("before")
      task.sleep(0.1)
      s:reset(7)
    end)
    assert.equal("before", stream:read())
    local bytes, err = stream:read()
    assert.is_nil(bytes)
    assert.equal("reset", err.code)
    bytes, err = stream:read()
    assert.is_nil(bytes)
    assert.equal("reset", err.code)
    local ok
    ok, err = stream:write("x")
    assert.is_nil(ok)
    assert.equal("reset", err.code)
    assert.has_error(function()
      stream:reset(-1)
    end)
  end))

  it("is reset when its handler fails, which is reported", async(function()
    a, b = hosts.pair()
    local _ <close> = a
    local _ <close> = b
    local reported = {}
    task.on_failure(function(text)
      reported[#reported + 1] = text
    end)
    local stream <close> = open(function(s)
      s:write("half")
      task.sleep(0.05)
      error("handler broke")
    end)
    assert.equal("half", stream:read())
    local bytes, err = stream:read()
    assert.is_nil(bytes)
    assert.equal("reset", err.code)
    task.on_failure(nil)
    assert.matches("handler broke", reported[1])
  end))

  it("is ended by the collector", test(function()
    local served
    local stream = open(function(s) -- luacheck: ignore stream
      served = table.pack(s:read())
    end)
    stream = nil -- luacheck: ignore stream
    hosts.eventually(function()
      collectgarbage()
      return served
    end)
  end))

  it("ends with its connection and with its host", test(function()
    local stream <close> = open(function(s)
      s:read()
    end)
    local reader = task.spawn(function()
      return stream:read()
    end)
    a:disconnect(b:peer_id())
    local _, value, err = reader:join()
    assert.is_nil(value)
    assert.equal("gone", err.code)
    local other = open(function(s)
      s:read()
    end)
    a:close()
    value, err = other:read()
    assert.is_nil(value)
    assert.equal("closed", err.code)
    a = hosts.new()
  end))

  it("gives what came before its connection ended, and the end", test(function()
    local size = 400000
    for _, finished in ipairs { true, false } do
      local sent = false
      local stream <close> = open(function(s)
        assert(s:write(("x"):rep(size)))
        sent = true
        if not finished then
          s:read()
        end
      end)
      hosts.eventually(function() return sent end)
      task.sleep(0.3) -- a reader that is slow
      b:disconnect(a:peer_id())
      hosts.eventually(function() return #a:conns() == 0 end)
      local got = 0
      local bytes, err
      repeat
        bytes, err = stream:read()
        got = got + #(bytes or "")
      until not bytes
      assert.equal(size, got)
      assert.equal(not finished and "gone" or nil, err and err.code)
      bytes, err = stream:read_exactly(1)
      assert.is_nil(bytes)
      assert.equal(finished and "eof" or "gone", err.code)
    end
  end))

  it("chooses among protocols, and says when there is none", test(function()
    assert(b:handle("/b", function(s)
      s:write(s:protocol())
    end))
    local stream <close> = assert(a:open_stream(b:peer_id(), { "/a", "/b" }))
    assert.equal("/b", stream:protocol())
    assert.equal("/b", stream:read())
    local none, err = a:open_stream(b:peer_id(), "/c", { timeout = 5 })
    assert.is_nil(none)
    assert.equal("unsupported", err.code)
    for _, bad in ipairs { {}, { 1 }, true } do
      assert.has_error(function()
        a:open_stream(b:peer_id(), bad)
      end)
    end
  end))

  it("dials, or does not", test(function()
    assert(b:handle(PROTOCOL, function(s)
      s:write("x")
    end))
    local none, err = a:open_stream(b:peer_id(), PROTOCOL, { no_dial = true })
    assert.is_nil(none)
    assert.is_string(err.code)
    local lazy <close> = assert(a:open_stream(b:peer_id(), PROTOCOL, { lazy = true }))
    assert.equal("x", lazy:read())
    local conn = a:best_conn(b:peer_id())
    local over <close> = assert(a:open_stream(b:peer_id(), PROTOCOL, { conn = conn.id }))
    assert.equal("x", over:read())
    none, err = a:open_stream(b:peer_id(), PROTOCOL, { conn = 98765 })
    assert.is_nil(none)
    assert.equal("gone", err.code)
  end))

  it("is served by one function at a time", test(function()
    assert(b:handle(PROTOCOL, function() end))
    local ok, err = b:handle(PROTOCOL, function() end)
    assert.is_nil(ok)
    assert.equal("exists", err.code)
    assert(b:handle(PROTOCOL, nil))
    local stream
    stream, err = a:open_stream(b:peer_id(), PROTOCOL)
    assert.is_nil(stream)
    assert.equal("unsupported", err.code)
    assert(b:handle(PROTOCOL, function() end))
    assert.has_error(function()
      b:handle(PROTOCOL .. "x", 1)
    end)
  end))

  it("runs hundreds at once", test(function()
    assert(b:handle(PROTOCOL, function(s)
      local n = s:read_exactly(4)
      task.sleep(0.01)
      s:write(n)
    end))
    local tasks = {}
    for i = 1, 200 do
      tasks[i] = task.spawn(function()
        local stream <close> = assert(a:open_stream(b:peer_id(), PROTOCOL))
        assert(stream:write(("%04d"):format(i)))
        return tonumber((assert(stream:read_exactly(4, 10))))
      end)
    end
    for i = 1, 200 do
      assert.same({ true, i }, { tasks[i]:join() })
    end
  end))

  it("checks arguments", test(function()
    local stream <close> = open(function(s)
      s:read()
    end)
    for _, call in ipairs { { "read", 0 }, { "read", (1 << 20) + 1 }, { "read", 1, -1 },
      { "read_exactly" }, { "read_exactly", -1 }, { "write" }, { "write", {} } } do
      assert.has_error(function()
        stream[call[1]](stream, table.unpack(call, 2))
      end)
    end
  end))
end)
