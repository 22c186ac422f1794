local core = require "peerup.core"
local uv = require "luv"

local write_atomic = core.fs.write_atomic

local function octal(text)
  return tonumber(text, 8)
end

local function read(path)
  local f = assert(io.open(path, "rb"))
  local bytes = f:read("a")
  f:close()
  return bytes
end

local function names(directory)
  local list = {}
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(directory)) do
    list[#list + 1] = name
  end
  return list
end

describe("core.fs.write_atomic", function()
  local directory, path
  before_each(function()
    directory = assert(uv.fs_mkdtemp("/tmp/peerup-fs-XXXXXX"))
    path = directory .. "/file"
  end)
  after_each(function()
    for _, name in ipairs(names(directory)) do
      uv.fs_unlink(directory .. "/" .. name)
    end
    assert(uv.fs_rmdir(directory))
  end)

  it("writes, with the mode asked for whatever the umask", function()
    assert.is_true(write_atomic(path, "a\0b", octal "600"))
    assert.equal("a\0b", read(path))
    assert.equal(octal "600", uv.fs_stat(path).mode & octal "777")
    assert.is_true(write_atomic(path, "", octal "664"))
    assert.equal("", read(path))
    assert.equal(octal "664", uv.fs_stat(path).mode & octal "777")
    assert.same({ "file" }, names(directory))
  end)

  it("replaces the name, not the file", function()
    assert(write_atomic(path, "old", octal "600"))
    local old = assert(io.open(path, "rb"))
    local before = uv.fs_stat(path).ino
    assert(write_atomic(path, "new", octal "600"))
    assert.not_equal(before, uv.fs_stat(path).ino)
    assert.equal("old", old:read("a"))
    old:close()
    assert.equal("new", read(path))
  end)

  it("writes much", function()
    local much = ("0123456789abcdef"):rep(1 << 16)
    assert.is_true(write_atomic(path, much, octal "600"))
    assert.equal(much, read(path))
  end)

  it("leaves things as they were when it fails", function()
    local ok, err = write_atomic(directory .. "/no/file", "x", octal "600")
    assert.is_nil(ok)
    assert.equal("not_found", err.code)
    assert.matches(directory .. "/no/file", tostring(err), 1, true)
    assert(uv.fs_mkdir(path, octal "700"))
    ok, err = write_atomic(path, "x", octal "600")
    assert.is_nil(ok)
    assert.is_string(err.code)
    assert.same({ "file" }, names(directory))
    assert(uv.fs_rmdir(path))
    assert.is_nil((write_atomic(directory .. "/" .. ("x"):rep(300), "x", octal "600")))
  end)

  it("says that a parent is no directory", function()
    local ok, err = write_atomic("/dev/null/x", "x", octal "600")
    assert.is_nil(ok)
    assert.is_string(err.code)
  end)

  -- What is written over and over while the signal comes; the first one has the name `path`.
  local WRITERS = {
    file = 'assert(core.fs.write_atomic(path .. "-" .. i % 2, ("x"):rep(1 << 16) .. i, 384))',
    key = 'assert(core.identity.save(path .. "-" .. i, key))',
  }
  for what, line in pairs(WRITERS) do
    it("leaves nothing beside a " .. what .. " when the user interrupts it", async(function()
      local source, build = assert(os.getenv "PEERUP_SOURCE"), assert(os.getenv "PEERUP_BUILD")
      local script = directory .. "/script.lua"
      assert(write_atomic(script, ([[
        local core, path = require "peerup.core", %q
        local key = core.identity.generate()
        for i = 1, 1e6 do %s end]]):format(path, line), octal "600"))
      for _, signal in ipairs { "sigint", "sigterm", "sighup", "sigint", "sigint", "sigint" } do
        local _, ended = core.task.await(function(resume)
          local child, timer
          child = assert(uv.spawn(assert(os.getenv "LUA_RUNNER"), { args = { source .. "/lua",
            source .. "/scripts", build .. "/lib", script } }, function(...)
            child:close()
            timer:close()
            resume(...)
          end))
          timer = uv.new_timer()
          timer:start(20, 20, function() -- as soon as it writes
            if uv.fs_stat(path .. "-1") then child:kill(signal) end
          end)
        end)
        assert.is_true(ended > 0)
        for _, name in ipairs(names(directory)) do
          assert.is_nil(name:find ".new-", name)
          if name ~= "script.lua" then uv.fs_unlink(directory .. "/" .. name) end
        end
      end
    end))
  end

  it("wants a path and a mode", function()
    for _, arguments in ipairs { { "" }, { "a\0b", "x" }, { path }, { path, "x", octal "7777" },
      { path, "x", -1 } } do
      assert.has_error(function()
        write_atomic(table.unpack(arguments))
      end)
    end
  end)
end)
