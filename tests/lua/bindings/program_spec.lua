-- The program around a script (bindings/program.c): run as a process of its own.
local core = require "peerup.core"
local uv = require "luv"

local task = core.task

local RUNNER = assert(os.getenv "LUA_RUNNER")
local BUILD = assert(os.getenv "PEERUP_BUILD")
local SOURCE = assert(os.getenv "PEERUP_SOURCE")

--- Runs a program; returns its exit code, output and error output.
local function run(file, args, options)
  options = options or {}
  local out, err = {}, {}
  local function collect(pipe, list, done)
    pipe:read_start(function(_, chunk)
      if chunk then
        list[#list + 1] = chunk
      else
        pipe:close()
        done()
      end
    end)
  end
  local code, signal = task.await(function(resume)
    local stdout, stderr = uv.new_pipe(false), uv.new_pipe(false)
    local left, status = 3, nil
    local function done()
      left = left - 1
      if left == 0 then
        resume(table.unpack(status))
      end
    end
    local child
    child = assert(uv.spawn(file, { args = args, stdio = { nil, stdout, stderr },
      cwd = options.cwd, env = options.env }, function(...)
      status = { ... }
      child:close()
      done()
    end))
    collect(stdout, out, done)
    collect(stderr, err, done)
  end)
  return code, table.concat(out), table.concat(err), signal
end

describe("a program", function()
  local directory, script
  before_each(function()
    directory = assert(uv.fs_mkdtemp("/tmp/peerup-run-XXXXXX"))
    script = directory .. "/script.lua"
  end)
  after_each(function()
    for name in uv.fs_scandir_next, assert(uv.fs_scandir(directory)) do
      uv.fs_unlink(directory .. "/" .. name)
    end
    assert(uv.fs_rmdir(directory))
  end)

  local function run_script(source, ...)
    assert(core.fs.write_atomic(script, source, tonumber("600", 8)))
    return run(RUNNER, { SOURCE .. "/lua", SOURCE .. "/scripts", BUILD .. "/lib", script, ... },
      { cwd = directory })
  end

  it("passes arguments and gives the exit code", async(function()
    local code, out = run_script([[
      local a, b = ...
      io.write(arg[0]:match("[^/]*$"), " ", arg[1], " ", #arg, " ", a, " ", tostring(b))
      return 42]], "one", "")
    assert.equal(42, code)
    assert.equal("script.lua one 2 one ", out)
    assert.equal(0, (run_script("")))
    assert.equal(0, (run_script("return true")))
    assert.equal(1, (run_script("return false")))
  end))

  it("fails with a traceback on an error", async(function()
    local code, _, err = run_script("require('peerup.core').task.sleep(0) error('broken')")
    assert.equal(1, code)
    assert.matches("script.lua:1: broken.*stack traceback", err)
    code, _, err = run_script("this is no Lua")
    assert.equal(1, code)
    assert.matches("script.lua:1: syntax error", err)
  end))

  it("writes all output before it ends, and says when it cannot", async(function()
    local code, out = run_script("io.stdout:setvbuf('full') io.write(('x'):rep(100000)) return 0")
    assert.equal(0, code)
    assert.equal(100000, #out)
    assert(core.fs.write_atomic(script, "io.write('x') return 0", tonumber("600", 8)))
    local _, err
    code, _, err = run("/bin/sh", { "-c", 'exec "$0" "$@" >/dev/full', RUNNER, SOURCE .. "/lua",
      SOURCE .. "/scripts", BUILD .. "/lib", script })
    assert.equal(1, code)
    assert.matches("cannot write to standard output: No space left", err)
  end))

  it("is content when its reader has enough", async(function()
    assert(core.fs.write_atomic(script, "while io.write(('x'):rep(9999)) do end return 0",
      tonumber("600", 8)))
    local code, out, err = run("/bin/sh", { "-c", '{ "$0" "$@"; echo "code $?" >&2; } | head -c 3',
      RUNNER, SOURCE .. "/lua", SOURCE .. "/scripts", BUILD .. "/lib", script })
    assert.equal(0, code)
    assert.equal("xxx", out)
    assert.equal("code 0\n", err)
  end))

  it("does not take code from the working directory", async(function()
    assert(core.fs.write_atomic(directory .. "/evil.lua", "return 'evil'", tonumber("600", 8)))
    local code, out = run_script([[
      print((pcall(require, "evil")))
      print(package.path:match("^%.") or package.path:match(";%.") or "clean")
      print(package.cpath:match("^%.") or package.cpath:match(";%.") or "clean")]])
    assert.equal(0, code)
    assert.equal("false\nclean\nclean\n", out)
  end))

  it("reports errors in callbacks of luv, and goes on", async(function()
    local code, out, err = run_script([[
      local uv, core = require "luv", require "peerup.core"
      uv.new_timer():start(0, 0, function() error("in a callback") end)
      core.task.sleep(0.02)
      print "still here"]])
    assert.equal(0, code)
    assert.equal("still here\n", out)
    assert.matches("in a callback.*stack traceback", err)
  end))

  it("has no function that ends the loop", async(function()
    local code, out = run_script([[
      local uv = require "luv"
      print(uv.walk, uv.run, uv.stop, uv.loop_close, uv.new_timer ~= nil)]])
    assert.equal(0, code)
    assert.equal("nil\tnil\tnil\tnil\ttrue\n", out)
  end))

  it("ends with all kinds of things left open", async(function()
    local code, out, err = run_script([[
      local uv, core = require "luv", require "peerup.core"
      local task = core.task
      for i = 1, 10 do uv.new_timer():start(1000000, 0, print) end
      local pipe = uv.new_pipe(false)
      pipe:bind(arg[1] .. "/pipe") pipe:listen(5, print)
      uv.new_signal():start("sigusr1")
      core.http.serve({ path = arg[1] .. "/http", max_body = 1, max_conns = 1, timeout = 5 },
        function() end)
      task.spawn(function() print("first", select(2, task.sleep(100000))) end)
      task.spawn(function()
        print("again", select(2, task.sleep(100000)))
        print("again", select(2, task.sleep(100000)))
      end)
      task.spawn(function()
        local guard <close> = setmetatable({}, { __close = function() print "closed" end })
        task.await(function() end)
      end)
      return 5]], directory)
    assert.equal("", err)
    assert.equal(5, code)
    local lines = {}
    for line in out:gmatch("[^\n]+") do
      lines[#lines + 1] = line
    end
    table.sort(lines)
    assert.same({ "again\tcanceled", "again\tcanceled", "closed", "first\tcanceled" }, lines)
  end))

  it("does not hang on a task that will not end", async(function()
    local code = run_script([[
      local core = require "peerup.core"
      core.task.spawn(function() while true do core.task.sleep(0.01) end end)
      return 3]])
    assert.equal(3, code)
  end))

  it("does not wait for nothing", async(function()
    local code, _, err = run_script([[
      local core = require "peerup.core"
      local value, problem = core.task.await(function() end)
      return problem.code == "canceled" and 7 or 1]])
    assert.equal(7, code)
    assert.matches("waits for nothing", err)
  end))

  it("leaves a file as it was when the disk is full", async(function()
    local file = directory .. "/precious"
    assert(core.fs.write_atomic(file, "old", tonumber("600", 8)))
    assert(core.fs.write_atomic(script, [[
      local core = require "peerup.core"
      local ok, err = core.fs.write_atomic(arg[1], ("x"):rep(1 << 20), tonumber("600", 8))
      io.stderr:write(tostring(err))
      return ok and 0 or 9]], tonumber("600", 8)))
    -- A file may have 1 KiB here: the second piece of the write fails, as on a full disk.
    local code, _, err = run("/bin/sh", { "-c", 'trap "" XFSZ; ulimit -f 2; exec "$0" "$@"',
      RUNNER, SOURCE .. "/lua", SOURCE .. "/scripts", BUILD .. "/lib", script, file })
    assert.equal(9, code)
    assert.matches("cannot write " .. file .. ": File too large", err, 1, true)
    local f = assert(io.open(file))
    assert.equal("old", f:read("a"))
    f:close()
    local count = 0
    for _ in uv.fs_scandir_next, assert(uv.fs_scandir(directory)) do
      count = count + 1
    end
    assert.equal(2, count)
  end))

  it("says when its files are missing", async(function()
    local copy = directory .. "/peerup"
    assert(uv.fs_copyfile(assert(os.getenv "PEERUP"), copy))
    local code, _, err = run(copy, { "version" })
    assert.equal(1, code)
    assert.matches("peerup: ", err)
  end))
end)
