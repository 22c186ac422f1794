local core = require "peerup.core"
local uv = require "luv"

local task = core.task

local directory, path

--- Sends raw bytes to the server, and returns all that comes until it closes or `enough` matches.
local function exchange(bytes, enough)
  return task.await(function(resume)
    local pipe = assert(uv.new_pipe(false))
    local got = {}
    local function done(err)
      if not pipe:is_closing() then
        pipe:close()
        resume(table.concat(got), err)
      end
    end
    pipe:connect(path, function(err)
      if err then
        return done(err)
      end
      pipe:read_start(function(problem, chunk)
        if problem or not chunk then
          return done(problem)
        end
        got[#got + 1] = chunk
        if enough and table.concat(got):match(enough) then
          done()
        end
      end)
      pipe:write(bytes)
    end)
    return function()
      done("canceled")
    end
  end)
end

local function get(target, extra, method)
  return exchange(("%s %s HTTP/1.1\r\nHost: daemon\r\nConnection: close\r\n%s\r\n"):format(
    method or "GET", target, extra or ""))
end

local function serve(handler, options)
  options = options or {}
  return core.http.serve({
    path = options.path or path,
    max_body = options.max_body or 1000,
    max_conns = options.max_conns or 20,
    timeout = options.timeout or 5,
  }, handler)
end

describe("core.http", function()
  before_each(function()
    directory = assert(uv.fs_mkdtemp("/tmp/peerup-http-XXXXXX"))
    path = directory .. "/daemon.sock"
  end)
  after_each(function()
    for _, name in ipairs { "daemon.sock", "daemon.sock.new", "other.sock" } do
      uv.fs_unlink(directory .. "/" .. name)
    end
    assert(uv.fs_rmdir(directory))
  end)

  it("answers with what the handler returns", async(function()
    local seen
    local server <close> = assert(serve(function(request) -- luacheck: ignore server
      seen = request
      return 201, { ["Content-Type"] = "text/plain", ["X-Many"] = { "a", "b" } }, "hello\0there"
    end))
    local answer = assert(get("/v1/things/a%20b?x=1&y=%2F&z", "X-Case: One\r\nx-case: Two\r\n"))
    assert.matches("^HTTP/1.1 201 ", answer)
    assert.matches("\r\nContent%-Type: text/plain\r\n", answer)
    assert.matches("\r\nX%-Many: a\r\nX%-Many: b\r\n", answer)
    assert.equal("hello\0there", answer:match("\r\n\r\n(.*)$"))
    assert.equal("GET", seen.method)
    assert.equal("/v1/things/a b", seen.path)
    assert.same({ x = "1", y = "/", z = "" }, seen.query)
    assert.equal("One, Two", seen.headers["x-case"])
    assert.equal("daemon", seen.headers.host)
    assert.equal("", seen.body)
    assert.equal(uv.getuid(), seen.uid)
  end))

  it("makes a socket that only its owner may use", async(function()
    local server = assert(serve(function()
      return 200, {}, ""
    end))
    local stat = assert(uv.fs_lstat(path))
    assert.equal("socket", stat.type)
    assert.equal(tonumber("600", 8), stat.mode & tonumber("777", 8))
    assert.is_nil(uv.fs_lstat(path .. ".new"))
    server:close()
    server:close()
    assert.is_nil(uv.fs_lstat(path))
  end))

  it("takes a body in pieces, and refuses one that is too long", async(function()
    local server <close> = assert(serve(function(request) -- luacheck: ignore server
      return 200, {}, request.method .. #request.body .. request.body:sub(-3)
    end))
    local body = ("x"):rep(997) .. "end"
    local answer = assert(exchange("POST / HTTP/1.1\r\nHost: d\r\nConnection: close\r\n"
      .. "Content-Length: 1000\r\n\r\n" .. body))
    assert.matches("POST1000end$", answer)
    answer = assert(exchange("POST / HTTP/1.1\r\nHost: d\r\nConnection: close\r\n"
      .. "Content-Length: 1001\r\n\r\n" .. body .. "!"))
    assert.matches("^HTTP/1.1 413 ", answer)
  end))

  it("sends no body for HEAD", async(function()
    local server <close> = assert(serve(function(request) -- luacheck: ignore server
      return 200, {}, request.method
    end))
    local answer = assert(get("/", nil, "HEAD"))
    assert.matches("Content%-Length: 4\r\n", answer)
    assert.matches("\r\n\r\n$", answer)
  end))

  it("lets handlers wait, many at once", async(function()
    local most, now = 0, 0
    local server <close> = assert(serve(function(request) -- luacheck: ignore server
      now = now + 1
      most = math.max(most, now)
      task.sleep(0.05)
      now = now - 1
      return 200, {}, request.path
    end))
    local tasks = {}
    for i = 1, 10 do
      tasks[i] = task.spawn(get, "/" .. i)
    end
    for i = 1, 10 do
      local ok, answer = tasks[i]:join()
      assert(ok)
      assert.matches("/" .. i .. "$", answer)
    end
    assert.is_true(most > 5)
  end))

  it("keeps connections open between requests", async(function()
    local count = 0
    local server <close> = assert(serve(function() -- luacheck: ignore server
      count = count + 1
      return 200, {}, "answer " .. count
    end))
    local one = "GET / HTTP/1.1\r\nHost: d\r\n\r\n"
    local answer = assert(exchange(one .. one, "answer 2"))
    assert.matches("answer 1.*answer 2$", answer)
  end))

  it("answers 500 when the handler fails, and reports it", async(function()
    local reported = {}
    task.on_failure(function(text)
      reported[#reported + 1] = text
    end)
    local returns = {}
    local server <close> = assert(serve(function(request) -- luacheck: ignore server
      if request.path == "/throw" then
        task.sleep(0)
        error("handler broke")
      end
      return table.unpack(returns[request.path], 1, 3)
    end))
    returns["/none"] = {}
    returns["/status"] = { 1000, {}, "" }
    returns["/body"] = { 200, {}, {} }
    returns["/header"] = { 200, { ["X-Bad"] = "a\r\nb: c" }, "" }
    returns["/name"] = { 200, { "x" }, "" }
    for _, target in ipairs { "/throw", "/none", "/status", "/body", "/header", "/name" } do
      local answer = assert(get(target))
      assert.matches("^HTTP/1.1 500 ", answer)
      assert.matches("internal error", answer)
      assert.not_matches("broke", answer)
    end
    task.on_failure(nil)
    assert.equal(6, #reported)
    assert.matches("handler broke", reported[1])
  end))

  it("does not answer garbage with a crash", async(function()
    local server <close> = assert(serve(function() -- luacheck: ignore server
      return 200, {}, "fine"
    end, { timeout = 1 }))
    exchange("\0\1\2\r\n\r\n")
    exchange(("x"):rep(100000) .. "\r\n\r\n")
    assert.matches("^HTTP/1.1 4%d%d ", (exchange("GET / HTTP/1.1\r\nHost: d\r\n"
      .. ("H: " .. ("v"):rep(4000) .. "\r\n"):rep(20) .. "\r\n")))
    assert.matches("fine$", (get("/")))
  end))

  it("breaks connections when it closes, and cancels the tasks", async(function()
    local result
    local server = assert(serve(function()
      result = table.pack(task.sleep(100))
      return 200, {}, "late"
    end))
    local client = task.spawn(get, "/")
    task.sleep(0.05)
    server:close()
    local ok, answer = client:join()
    assert.is_true(ok)
    assert.not_matches("late", answer or "")
    task.sleep(0.01)
    assert.equal("canceled", result[2].code)
  end))

  it("lives on when the object is dropped", async(function()
    local server = assert(serve(function()
      return 200, {}, "alive"
    end))
    local weak = setmetatable({ server }, { __mode = "v" })
    server = nil -- luacheck: ignore server
    collectgarbage()
    collectgarbage()
    assert.matches("alive$", (get("/")))
    weak[1]:close()
  end))

  it("ends connections that say nothing", async(function()
    local server <close> = assert(serve(function() -- luacheck: ignore server
      return 200, {}, ""
    end, { timeout = 1 }))
    local before = uv.hrtime()
    exchange("GET / HTTP/1.1\r\n")
    local passed = (uv.hrtime() - before) / 1e9
    assert.is_true(passed > 0.5 and passed < 5)
  end))

  it("refuses a path in use, and takes a dead server's", async(function()
    local server = assert(serve(function()
      return 200, {}, "first"
    end))
    local second, err = serve(function()
      return 200, {}, "second"
    end)
    assert.is_nil(second)
    assert.equal("address_in_use", err.code)
    assert.matches("first$", (get("/")))
    server:close()

    local dead = assert(uv.new_pipe(false))
    assert(dead:bind(path))
    dead:close()
    local fresh <close>, problem = serve(function() -- luacheck: ignore fresh
      return 200, {}, "second"
    end)
    assert(fresh, tostring(problem))
    assert.matches("second$", (get("/")))
  end))

  it("does not replace what is no socket, nor remove another's", async(function()
    assert(core.fs.write_atomic(path, "precious", tonumber("600", 8)))
    local server, err = serve(function()
      return 200, {}, ""
    end)
    assert.is_nil(server)
    assert.equal("exists", err.code)
    uv.fs_unlink(path)
    server = assert(serve(function()
      return 200, {}, ""
    end))
    uv.fs_unlink(path)
    assert(core.fs.write_atomic(path, "other", tonumber("600", 8)))
    server:close()
    assert(uv.fs_lstat(path))
  end))

  it("says what is wrong with a path", async(function()
    local server, err = serve(function() end, { path = "/nowhere/at/all.sock" })
    assert.is_nil(server)
    assert.equal("not_found", err.code)
    server, err = serve(function() end, { path = "/tmp/" .. ("x"):rep(200) })
    assert.is_nil(server)
    assert.matches("too long", tostring(err))
    assert.has_error(function()
      serve(function() end, { max_conns = 0 })
    end)
    assert.has_error(function()
      core.http.serve({ path = path }, function() end)
    end)
  end))
end)
