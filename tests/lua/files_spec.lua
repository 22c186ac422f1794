--- lua/peerup/fs.lua, identity.lua, watch.lua, log.lua, net.lua
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local core = require "peerup.core"
local fs = require "peerup.fs"
local identity = require "peerup.identity"
local log = require "peerup.log"
local net = require "peerup.net"
local uv = require "luv"
local watch = require "peerup.watch"

describe("fs", function()
  it("joins and splits paths", function()
    assert.equal("a/b", fs.join("a", "b"))
    assert.equal("/b", fs.join("a", "/b"))
    assert.equal("b", fs.join(".", "b"))
    assert.equal("a/b", fs.join("a/", "b"))
    assert.equal("/a", fs.dirname("/a/b"))
    assert.equal(".", fs.dirname("b"))
    assert.equal("/", fs.dirname("/b"))
  end)

  it("reads, creates once, and follows links when it writes", function()
    local dir <close> = support.dir()
    local path = dir.path .. "/deep/er/f"
    assert(fs.mkdir(fs.dirname(path)))
    assert(fs.create(path, "x"))
    assert.equal("exists", select(2, fs.create(path, "y")).code)
    assert.equal("x", fs.read(path))
    local link = dir.path .. "/link"
    uv.fs_symlink(path, link)
    assert(fs.write(link, "z"))
    assert.equal("z", fs.read(path))
    assert.equal("link", uv.fs_lstat(link).type)
    local text, problem = fs.read(dir.path .. "/none")
    assert.is_nil(text)
    assert.equal("not_found", problem.code)
    assert.matches(dir.path .. "/none", tostring(problem), 1, true)
  end)
end)

describe("identity", function()
  it("is made once and kept", function()
    local dir <close> = support.dir()
    local path = dir.path .. "/sub/identity.key"
    assert.equal("not_found", select(2, identity.load(path)).code)
    local first = assert(identity.load_or_create(path))
    assert.is_true(first.created)
    local again = assert(identity.load_or_create(path))
    assert.equal(first.peer_id, again.peer_id)
    assert.equal(68, #fs.read(path))
    uv.fs_chmod(path, tonumber("640", 8))
    local none, problem = identity.load_or_create(path)
    assert.is_nil(none)
    assert.equal("key_mode", problem.code)
    assert.matches("chmod 600", tostring(problem))
  end)

  it("refuses a file that is no key", function()
    local dir <close> = support.dir()
    assert(fs.write(dir.path .. "/k", "nonsense"))
    assert.is_nil((identity.load(dir.path .. "/k")))
    assert.equal("nonsense", fs.read(dir.path .. "/k"))
  end)
end)

describe("watch", function()
  it("tells of a change, a removal and a return, by name", async(function()
    local dir <close> = support.dir()
    local path, other = dir.path .. "/a", dir.path .. "/b"
    assert(fs.write(path, "1"))
    local seen, resume = {}, nil
    local w <close> = watch.start({ path }, function(changed)
      seen[#seen + 1] = changed
      if resume then resume(true) end
    end)
    local function wait()
      core.task.await(function(r) resume = r end)
      resume = nil
    end
    assert(fs.write(other, "1"))
    assert(fs.write(path, "22"))
    wait()
    assert(fs.remove(path))
    wait()
    assert(fs.write(path, "333"))
    wait()
    assert.same({ path, path, path }, seen)
    assert.is_nil(w.files[other])
  end))

  it("notices without the system's help, and ticks", async(function()
    local dir <close> = support.dir()
    local path = dir.path .. "/later/a"
    local ticks, changed = 0, nil
    local w <close> = watch.start({ path }, function(p) changed = p end,
      function() ticks = ticks + 1 end)
    assert.same({}, w.dirs) -- the directory is not there yet
    assert(fs.mkdir(fs.dirname(path)))
    assert(fs.write(path, "1"))
    core.task.sleep(1.3)
    assert.equal(path, changed)
    assert.is_true(ticks >= 1)
  end))
end)

describe("log", function()
  it("writes one quoted line", function()
    local lines = {}
    local l = log.new(function(text) lines[#lines + 1] = text end, "info", function() return 0 end)
    l:debug("hidden")
    l:warn("a b", "peer", "x", "none", nil, "why", 'say "no"\n')
    assert.equal(1, #lines)
    assert.matches('^time=19[67]%d%-.* level=WARN msg="a b" peer=x why="say \\"no\\"\\n"\n$',
      lines[1])
  end)
end)

describe("a limited log", function()
  it("counts what is too much, and starts anew each minute", function()
    local lines, now = {}, 0
    local function keep(text) lines[#lines + 1] = text end
    local l = log.new(keep, "info", function() return now end)
    local write = l:limited(2)
    for _ = 1, 5 do write("info", "x") end
    assert.equal(2, #lines)
    now = 60
    write("info", "x")
    assert.equal(4, #lines)
    assert.matches("left out\" count=3", lines[3], 1, true)
  end)
end)

describe("net", function()
  it("knows which addresses are global", function()
    for _, ip in ipairs { "10.1.1.1", "127.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.1.1",
      "100.64.0.1", "224.0.0.1", "0.0.0.0" } do
      assert.is_false(net.is_global_ipv4(ip), ip)
    end
    for _, ip in ipairs { "8.8.8.8", "172.32.0.1", "100.128.0.1", "192.0.2.1" } do
      assert.is_true(net.is_global_ipv4(ip), ip)
    end
    assert.is_true(net.is_global_ipv6("2001:db8::1"))
    for _, ip in ipairs { "::1", "fe80::1", "fd00::1" } do
      assert.is_false(net.is_global_ipv6(ip))
    end
  end)

  it("grades", function()
    local function grade(a, b, n)
      return net.reachability { global_ipv6 = a, global_ipv4 = b, count = n }.grade
    end
    assert.same({ "A", "B", "D", "F" }, { grade(true, true, 1), grade(false, true, 1),
      grade(false, false, 1), grade(false, false, 0) })
  end)

  it("expands the any address", function()
    assert.same({ "/ip4/127.0.0.1/tcp/1" }, net.expand("/ip4/127.0.0.1/tcp/1"))
    for _, addr in ipairs(net.expand("/ip4/0.0.0.0/tcp/1")) do
      assert.matches("^/ip4/%d+%.%d+%.%d+%.%d+/tcp/1$", addr)
      assert.not_matches("0.0.0.0", addr, 1, true)
    end
  end)
end)
