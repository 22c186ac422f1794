--- lua/peerup/authorized_keys.lua; the Go program's own cases are in tests/vectors.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local fs = require "peerup.fs"
local keys = require "peerup.authorized_keys"

local A, B = support.PEERS[1], support.PEERS[2]

describe("expires", function()
  it("is read as RFC 3339", function()
    assert.equal(0, keys.parse_time("1970-01-01T00:00:00Z"))
    assert.equal(951782400, keys.parse_time("2000-02-29T00:00:00Z"))
    assert.equal(-1, keys.parse_time("1969-12-31T23:59:59Z"))
    assert.equal(1893546245, keys.parse_time("2030-01-02T03:04:05+02:00"))
    for _, text in ipairs { "", "2030-01-02", "2030-13-01T00:00:00Z", "2030-02-29T00:00:00Z",
      "2030-01-01T24:00:00Z", "2030-01-01T00:00:00", "2030-01-01T00:00:00+25:00" } do
      assert.is_nil(keys.parse_time(text), text)
    end
  end)

  it("is enforced, and a time nobody can read counts as past", function()
    local function entry(value) return keys.list(A .. " expires=" .. value)[1] end
    local at = keys.parse_time("2030-01-01T00:00:00Z")
    assert.is_true(keys.is_valid(entry("2030-01-01T00:00:00Z"), at - 1))
    assert.is_false(keys.is_valid(entry("2030-01-01T00:00:00Z"), at))
    assert.is_false(keys.is_valid(entry("tomorrow"), 0))
    assert.is_true(keys.is_valid(keys.list(A)[1], at))
    assert.is_false(keys.is_valid(nil, at))
  end)
end)

describe("edits", function()
  it("mend a last line without its newline", function()
    assert.equal(A .. "\n" .. B .. "\n", keys.add(A, B))
  end)

  it("write attributes", function()
    assert.equal(A .. "  invited_by=" .. B .. "  # n\n", keys.add("", A, "n", { invited_by = B }))
  end)

  it("refuse to add to a file with a bad line", function()
    local text, problem = keys.add("nonsense\n", A)
    assert.is_nil(text)
    assert.equal(1, problem.line)
  end)
end)

describe("check", function()
  it("passes attributes and finds every fault", function()
    local text = "%s  verified=sha256:00112233  group=1  # x\nbad\n%s expires=x\n"
    local good, faults = keys.check(text:format(A, B))
    assert.equal(2, good)
    assert.equal(2, #faults)
    assert.equal(2, faults[1].line)
    assert.equal(3, faults[2].line)
  end)
end)

describe("files", function()
  it("are changed as a whole, 0600, or not at all", function()
    local dir <close> = support.dir()
    local path = dir.path .. "/authorized_keys"
    assert(keys.update_file(path, function(text) return keys.add(text, A, "a") end))
    assert.equal(tonumber("600", 8), fs.stat(path).mode & tonumber("777", 8))
    local ok, problem = keys.update_file(path, function(text) return keys.add(text, A, "b") end)
    assert.is_nil(ok)
    assert.equal("exists", problem.code)
    assert.equal(A .. "  # a\n", fs.read(path))
    assert(keys.update_file(path, function(text) return keys.remove(text, A) end))
    assert.equal("", fs.read(path))
    assert.equal("", keys.read_file(dir.path .. "/none"))
  end)

  it("keep what others write at the same time", function()
    local dir <close> = support.dir()
    local path = dir.path .. "/authorized_keys"
    local first = true
    assert(keys.update_file(path, function(text)
      if first then fs.write(path, B .. "\n") end
      first = false
      return keys.add(text, A)
    end))
    assert.equal(B .. "\n" .. A .. "\n", fs.read(path))
    local ok, problem = keys.update_file(path, function(text)
      fs.write(path, text .. "#\n")
      return text .. "x"
    end)
    assert.is_nil(ok)
    assert.equal("again", problem.code)
  end)
end)
