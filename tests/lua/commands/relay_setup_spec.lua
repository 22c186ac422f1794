package.path = os.getenv "PEERUP_SOURCE" .. "/tests/support/?.lua;" .. package.path
local commands = require "commands"
local fs = require "peerup.fs"
local load = require "peerup.config.load"
local template = require "peerup.config.template"
local uv = require "luv"

local CONFIG, KEY, PEERS = "relay-server.yaml", "relay_node.key", "relay_authorized_keys"

local function setup(dir, input, ...)
  return commands.run({ home = dir.path, input = input }, "relay", "setup", "--dir", dir.path, ...)
end

local function names(path)
  local list = {}
  local scan = uv.fs_scandir(path)
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then break end
    list[#list + 1] = name
  end
  table.sort(list)
  return list
end

--- A relay that somebody has changed: texts of its own.
local function used(dir)
  for _, name in ipairs { CONFIG, KEY, PEERS } do
    assert(fs.write(fs.join(dir.path, name), "mine: " .. name .. "\n"))
  end
end
local function text(dir, name) return fs.read(fs.join(dir.path, name)) end
local function is_mine(dir, name) return text(dir, name) == "mine: " .. name .. "\n" end

describe("relay setup", function()
  it("makes what a relay needs where there is nothing, and asks nothing", function()
    local dir <close> = commands.dir()
    local code, out = setup(dir, {})
    assert.equal(0, code, out)
    assert.same({ CONFIG, PEERS }, names(dir.path)) -- the key comes at the first start
    for _, name in ipairs(names(dir.path)) do
      assert.equal(tonumber("600", 8), uv.fs_stat(fs.join(dir.path, name)).mode & 511)
    end
    local config = assert(load.relay(fs.join(dir.path, CONFIG)))
    assert.same({}, load.validate(config))
    assert.same({}, config.warnings)
    assert.equal(fs.read(commands.SOURCE .. "/examples/relay-server.yaml"), template.relay())
  end)

  it("keeps everything on 1, nothing, or anything else", function()
    for _, answer in ipairs { "1", "", "what?" } do
      local dir <close> = commands.dir()
      used(dir)
      local code, out = setup(dir, { answer })
      assert.equal(0, code)
      assert.matches("Choice [1/2/3/4]: ", out, 1, true)
      for _, name in ipairs { CONFIG, KEY, PEERS } do assert.is_true(is_mine(dir, name)) end
      assert.is_false(fs.exists(dir.path .. "/backups"))
    end
  end)

  it("fails at the end of the input, and where nobody can be asked", function()
    local dir <close> = commands.dir()
    used(dir)
    assert.equal(1, (setup(dir, {})))
    local code, _, problem = setup(dir, {}, "--non-interactive")
    assert.equal(1, code)
    assert.matches("%-%-fresh", problem)
    assert.is_true(is_mine(dir, CONFIG))
  end)

  it("begins afresh with a backup: asked, or by --fresh", function()
    for _, way in ipairs { "asked", "flag" } do
      local dir <close> = commands.dir()
      used(dir)
      local code
      if way == "asked" then code = setup(dir, { "2" })
      else code = setup(dir, {}, "--fresh", "--non-interactive") end
      assert.equal(0, code)
      assert.equal(template.relay(), text(dir, CONFIG))
      assert.is_nil((text(dir, KEY)))
      local backups = names(dir.path .. "/backups")
      assert.equal(1, #backups)
      assert.matches("^%d%d%d%d%-%d%d%-%d%d_%d%d%d%d%d%d$", backups[1])
      local path = dir.path .. "/backups/" .. backups[1]
      assert.same({ CONFIG, PEERS, KEY }, names(path))
      assert.equal("mine: " .. KEY .. "\n", fs.read(path .. "/" .. KEY))
      assert.equal(tonumber("700", 8), uv.fs_stat(path).mode & 511)
      assert.equal(tonumber("600", 8), uv.fs_stat(path .. "/" .. KEY).mode & 511)
    end
  end)

  it("restores a backup, and backs up what stood there", function()
    local dir <close> = commands.dir()
    used(dir)
    assert.equal(0, (setup(dir, { "2" })))
    assert.equal(0, (setup(dir, { "3", "9" }))) -- no such number
    assert.equal(template.relay(), text(dir, CONFIG))
    local code, out = setup(dir, { "3", "1" }) -- in the same second
    assert.equal(0, code)
    assert.matches("Restore which snapshot? [1-1]: ", out, 1, true)
    for _, name in ipairs { CONFIG, KEY, PEERS } do assert.is_true(is_mine(dir, name)) end
    local backups = names(dir.path .. "/backups")
    assert.equal(2, #backups)
    assert.matches("_01$", backups[2])
    code, out = setup(dir, { "3", "1" }) -- the newest comes first: the fresh one
    assert.equal(0, code, out)
    assert.equal(template.relay(), text(dir, CONFIG))
  end)

  it("decides for each file; only n replaces", function()
    local dir <close> = commands.dir()
    used(dir)
    local code, out = setup(dir, { "4", "N", "yes", "" })
    assert.equal(0, code)
    for _, title in ipairs { "config", "identity key", "authorized peers" } do
      assert.matches("Keep existing " .. title .. "? [Y/n]: ", out, 1, true)
    end
    assert.equal(template.relay(), text(dir, CONFIG))
    assert.is_true(is_mine(dir, KEY))
    assert.is_true(is_mine(dir, PEERS))
    assert.equal(1, #names(dir.path .. "/backups"))
  end)

  it("changes nothing when the backup cannot be made", function()
    local dir <close> = commands.dir()
    used(dir)
    assert(fs.write(dir.path .. "/backups", "in the way"))
    local code, _, problem = setup(dir, { "2" })
    assert.equal(1, code)
    assert.matches("backup failed", problem)
    assert.is_true(is_mine(dir, CONFIG))
    assert.is_true(is_mine(dir, KEY))
  end)

  it("completes what is missing, and makes files private", function()
    local dir <close> = commands.dir()
    assert(fs.write(fs.join(dir.path, PEERS), "# mine\n"))
    uv.fs_chmod(fs.join(dir.path, PEERS), tonumber("644", 8))
    assert.equal(0, (setup(dir, { "1" })))
    assert.equal("# mine\n", text(dir, PEERS))
    assert.equal(tonumber("600", 8), uv.fs_stat(fs.join(dir.path, PEERS)).mode & 511)
    assert.equal(template.relay(), text(dir, CONFIG))
  end)
end)
