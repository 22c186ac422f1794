local core = require "peerup.core"
package.path = os.getenv "PEERUP_SOURCE" .. "/tests/support/?.lua;" .. package.path
local hosts = require "hosts"
local uv = require "luv"

local task = core.task
local PROTOCOL = "/test/pipe/1.0.0"

--- Opens a stream to a server that serves it, and two pipes whose far ends are ours.
local function open(serve)
  local server, client = hosts.new(), hosts.new()
  assert(server:handle(PROTOCOL, serve))
  hosts.introduce(client, server)
  local stream = assert(client:open_stream(server:peer_id(), PROTOCOL, { timeout = 5 }))
  local input, output = assert(uv.pipe()), assert(uv.pipe())
  return { server = server, client = client, stream = stream, input = input, output = output,
    close = function()
      server:close()
      client:close()
      for _, fd in ipairs { input.read, output.write } do uv.fs_close(fd) end -- now /dev/null
    end }
end

local function handle(fd)
  local pipe = assert(uv.new_pipe())
  assert(pipe:open(fd))
  return pipe
end

--- All that comes out of a descriptor.
local function read_all(fd)
  local pipe, got = handle(fd), {}
  return task.await(function(resume)
    pipe:read_start(function(_, chunk)
      if chunk then got[#got + 1] = chunk return end
      pipe:close()
      resume(table.concat(got))
    end)
  end)
end

local function write_all(fd, bytes)
  local pipe = handle(fd)
  pipe:write(bytes, function() pipe:close() end)
end

local function echo(stream)
  while true do
    local bytes = stream:read(65536, 10)
    if not bytes then break end
    if not stream:write(bytes, 10) then return end
  end
  stream:close_write()
end

describe("stream:pipe", function()
  it("carries what comes in, and what comes back, to their ends", async(function()
    local t = open(echo)
    local bytes = ("0123456789abcdef"):rep(65536) -- 1 MiB
    write_all(t.input.write, bytes)
    local work = task.spawn(function() return t.stream:pipe(t.input.read, t.output.write) end)
    assert.equal(bytes, read_all(t.output.read))
    local ok, good, bytes_in, bytes_out = work:join()
    assert.is_true(ok)
    assert.is_true(good)
    assert.equal(#bytes, bytes_in)
    assert.equal(#bytes, bytes_out)
    assert.is_nil((t.stream:read())) -- it is closed
    t.close()
  end))

  it("begins with what has come before, and ends its output with the peer's", async(function()
    local t = open(function(stream)
      stream:write("banner")
      stream:close_write()
      stream:read(1, 10)
    end)
    task.sleep(0.1)
    local work = task.spawn(function() return t.stream:pipe(t.input.read, t.output.write) end)
    assert.equal("banner", read_all(t.output.read)) -- while our input stands
    uv.fs_close(t.input.write)
    assert.is_true(select(2, work:join()))
    t.close()
  end))

  it("takes files", async(function()
    local t = open(echo)
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write(("x"):rep(200000))
    file:close()
    local from = assert(uv.fs_open(path, "r", 0))
    local to = assert(uv.fs_open(path .. ".out", "w", 384))
    assert.is_true((t.stream:pipe(from, to)))
    local out <close> = assert(io.open(path .. ".out"))
    assert.equal(("x"):rep(200000), out:read "a")
    os.remove(path)
    os.remove(path .. ".out")
    for _, fd in ipairs { from, to } do uv.fs_close(fd) end
    for _, fd in ipairs { t.input.write, t.output.read } do uv.fs_close(fd) end
    t.close()
  end))

  it("holds the peer back for a slow reader, and loses nothing", async(function()
    local sent = 0
    local t = open(function(stream)
      for _ = 1, 64 do
        if not stream:write(("y"):rep(65536), 20) then return end
        sent = sent + 65536
      end
      stream:close_write()
    end)
    local work = task.spawn(function() return t.stream:pipe(t.input.read, t.output.write) end)
    task.sleep(0.5)
    assert.is_true(sent < 3 << 20, tostring(sent)) -- nobody reads yet: pipe, buffer, windows
    uv.fs_close(t.input.write)
    assert.equal(4 << 20, #read_all(t.output.read))
    assert.is_true(select(2, work:join()))
    t.close()
  end))

  it("ends when its reader has gone", async(function()
    local t = open(echo)
    uv.fs_close(t.output.read)
    write_all(t.input.write, "lost")
    local ok, problem = t.stream:pipe(t.input.read, t.output.write)
    assert.is_nil(ok)
    assert.equal("closed", problem.code)
    t.close()
  end))

  it("ends with the peer's reset, the host's end and the task's", async(function()
    local t = open(function(stream)
      stream:read(1, 20)
      stream:reset(7)
    end)
    assert(uv.fs_write(t.input.write, "x"))
    local ok, problem = t.stream:pipe(t.input.read, t.output.write)
    assert.is_nil(ok)
    assert.equal("reset", problem.code)
    for _, fd in ipairs { t.input.write, t.output.read } do uv.fs_close(fd) end
    t.close()

    t = open(function(stream) stream:read(1, 20) end)
    local work = task.spawn(function() return t.stream:pipe(t.input.read, t.output.write) end)
    task.sleep(0.05)
    t.client:close()
    local joined, done = work:join()
    assert.is_true(joined)
    assert.is_nil(done)
    for _, fd in ipairs { t.input.write, t.output.read } do uv.fs_close(fd) end
    t.close()

    t = open(function(stream) stream:read(1, 20) end)
    work = task.spawn(function() return t.stream:pipe(t.input.read, t.output.write) end)
    task.sleep(0.05)
    work:cancel()
    joined, done, problem = work:join()
    assert.is_true(joined)
    assert.is_nil(done)
    assert.equal("canceled", problem.code)
    for _, fd in ipairs { t.input.write, t.output.read } do uv.fs_close(fd) end
    t.close()
  end))

  it("refuses descriptors that are none, and streams in use or closed", async(function()
    local t = open(echo)
    local reader = task.spawn(function() return t.stream:read(1, 5) end)
    assert.has_error(function() t.stream:pipe(0, 1) end)
    reader:cancel()
    reader:join()
    local ok, problem = t.stream:pipe(99999, t.output.write)
    assert.is_nil(ok)
    assert.equal("io_error", problem.code)
    ok, problem = t.stream:pipe(t.input.read, t.output.write)
    assert.is_nil(ok)
    assert.equal("closed", problem.code)
    for _, fd in ipairs { t.input.write, t.output.read } do uv.fs_close(fd) end
    t.close()
  end))
end)
