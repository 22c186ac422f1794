--- lua/peerup/cli/manual.lua and scripts/commands/manual.lua: each command has a page that man
-- reads without a warning and that tells each flag.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local args = require "peerup.cli.args"
local fs = require "peerup.fs"
local manual = require "peerup.cli.manual"

--- What man shows of a page, and its warnings.
local function shown(page)
  local path = os.tmpname()
  assert(fs.write(path, page))
  local pipe = assert(io.popen("MANWIDTH=100 LC_ALL=C.UTF-8 man --warnings -P cat -l " .. path
    .. " 2>" .. path .. ".err"))
  local out = pipe:read("a"):gsub("\27%[[%d;]*m", ""):gsub(".\b", "")
  local ok = pipe:close()
  local warnings = fs.read(path .. ".err")
  os.remove(path)
  os.remove(path .. ".err")
  assert.is_true(ok)
  return out:gsub("\u{2010}", "-"):gsub("\u{2212}", "-"), warnings
end

local function each_leaf(command, fn)
  if not command.commands then return fn(command) end
  for _, sub in ipairs(command.commands) do each_leaf(sub, fn) end
end

describe("the manual", function()
  it("has a page for each command", async(function()
    local _, _, _, ctx = support.run({}, "manual")
    local commands = ctx.commands()
    assert.is_true(#commands > 10)
    for _, command in ipairs(commands) do
      local code, page = support.run({}, "manual", command.name)
      assert.equal(0, code)
      local text, warnings = shown(page)
      assert.equal("", warnings, command.name)
      assert.is_truthy(text:find("peerup-" .. command.name, 1, true), text)
      each_leaf(command, function(leaf)
        for _, option in ipairs(args.options(leaf)) do
          assert.is_truthy(text:find("--" .. option[1], 1, true), command.name .. option[1])
        end
      end)
    end
  end))

  it("has a page for the program", async(function()
    local code, page, _, ctx = support.run({}, "manual")
    assert.equal(0, code)
    local text, warnings = shown(page)
    assert.equal("", warnings)
    for _, command in ipairs(ctx.commands()) do
      assert.is_truthy(text:find(command.name, 1, true))
    end
    assert.is_truthy(text:find("./peerup.yaml", 1, true))
  end))

  it("shows words that look like macros as they are", async(function()
    local text, warnings = shown(manual.command({ name = "odd", no_config = true,
      summary = "a \\fBslash\n.SH and\n'dots'", args = { { "x", help = ".hidden \\n" } } }, "1"))
    assert.equal("", warnings)
    for _, part in ipairs { "\\fBslash", ".SH and", "'dots'", ".hidden \\n" } do
      assert.is_truthy(text:find(part, 1, true), text)
    end
  end))

  it("hints at mistyped commands", function()
    local code, out, errors = support.run({}, "manual", "pnig")
    assert.equal(1, code)
    assert.equal("", out)
    assert.equal('Error: there is no command "pnig" (did you mean ping?)\n', errors)
  end)
end)
