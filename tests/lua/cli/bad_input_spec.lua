--- Every command with missing, extra, unknown and wrong words. The commands are found, not listed:
-- a new one cannot escape. They run where there is no configuration, so nothing happens but words.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local args = require "peerup.cli.args"
local uv = require "luv"

local each = support.each_command

--- Words that fill a command's arguments, as a person might type them.
local function filled(words, command)
  local list = table.move(words, 1, #words, 1, {})
  for _, argument in ipairs(command.args or {}) do
    if not argument.optional then list[#list + 1] = "word" end
  end
  return list
end

--- Runs in an empty home and an empty working directory, which some commands write to; fails on
--- anything that looks like our own mistake.
local function run(dir, words)
  local label = table.concat(words, " ")
  local place <close>, before = support.dir(), uv.cwd()
  assert(uv.chdir(place.path))
  local done, code, out, errors = pcall(support.run, { home = dir.path }, table.unpack(words))
  assert(uv.chdir(before))
  assert.is_true(done, ("%s: %s"):format(label, code))
  assert.equal("integer", math.type(code), label)
  for _, text in ipairs { out, errors } do
    for _, mistake in ipairs { "stack traceback", "attempt to", "%.lua:%d", "nil value" } do
      assert.is_nil(text:find(mistake), label .. ": " .. text)
    end
  end
  return code, out, errors, label
end

describe("every group of commands", function()
  it("tells of the nearest of its own, with its usage, on standard error", async(function()
    local dir <close> = support.dir()
    local groups = 0
    local function descend(words, command)
      if not command.commands then return end
      groups = groups + 1
      for _, sub in ipairs(command.commands) do
        local list = table.move(words, 1, #words, 1, {})
        list[#list + 1] = sub.name .. "x"
        local code, out, errors, label = run(dir, list)
        assert.equal(1, code, label)
        assert.equal("", out, label)
        assert.matches("^Unknown " .. table.concat(words, " ") .. " subcommand: ", errors, label)
        assert.is_truthy(errors:find("Did you mean '" .. sub.name .. "'?", 1, true), label)
        assert.is_truthy(errors:find("Usage: peerup " .. table.concat(words, " "), 1, true), label)
        list[#list] = sub.name
        descend(list, sub)
      end
      for _, flag in ipairs { "--help", "-h", "-help", "help" } do
        local list = table.move(words, 1, #words, 1, {})
        list[#list + 1] = flag
        local code, out, errors, label = run(dir, list)
        assert.equal(0, code, label)
        assert.equal("", errors, label)
        assert.is_truthy(out:find("Usage: peerup " .. table.concat(words, " "), 1, true), label)
      end
    end
    local _, _, _, ctx = support.run({}, "version")
    for _, command in ipairs(ctx.commands()) do descend({ command.name }, command) end
    assert.is_true(groups >= 6)
  end))
end)

describe("every command", function()
  it("tells of a flag that it does not know, and the nearest", async(function()
    local dir <close> = support.dir()
    each(function(words, command)
      local list = filled(words, command)
      list[#list + 1] = "--no-such-flag"
      local code, _, errors, label = run(dir, list)
      assert.equal(command.bad_usage == 2 and 2 or 1, code, label)
      assert.matches("flag provided but not defined: %-no%-such%-flag", errors, label)
      assert.matches("Usage: peerup " .. table.concat(words, " "):gsub("%-", "%%-"), errors, label)
      for _, option in ipairs(args.options(command)) do
        local typo = option[1]:sub(1, -2)
        if #typo >= 4 then
          list[#list] = "--" .. typo .. "x"
          _, _, errors = run(dir, list)
          assert.matches("did you mean %-%-", errors, label .. " " .. typo)
          break
        end
      end
    end)
  end))

  it("tells which word is missing", async(function()
    local dir <close> = support.dir()
    local seen = 0
    each(function(words, command)
      local first = (command.args or {})[1]
      if not first or first.optional then return end
      seen = seen + 1
      local code, _, errors, label = run(dir, words)
      assert.equal(command.bad_usage == 2 and 2 or 1, code, label)
      assert.matches("missing argument: <" .. first[1]:gsub("%-", "%%-") .. ">", errors, label)
      assert.matches("Usage: peerup ", errors, label)
    end)
    assert.is_true(seen > 5)
  end))

  it("tells which value is wrong, or missing", async(function()
    local dir <close> = support.dir()
    each(function(words, command)
      for _, option in ipairs(args.options(command)) do
        local list = filled(words, command)
        local name = option[1]
        if option.type == "flag" then
          list[#list + 1] = ("--%s=maybe"):format(name)
          local code, _, errors, label = run(dir, list)
          assert.is_true(code == 1 or code == 2, label)
          assert.matches("invalid boolean value", errors, label)
        else
          list[#list + 1] = "--" .. name
          local code, _, errors, label = run(dir, list)
          assert.is_true(code == 1 or code == 2, label)
          assert.matches("flag needs an argument: %-" .. name:gsub("%-", "%%-"), errors, label)
          if option.type ~= "string" then
            list[#list + 1] = "many"
            code, _, errors, label = run(dir, list)
            assert.is_true(code == 1 or code == 2, label)
            assert.matches('invalid value "many" for flag', errors, label)
          end
        end
      end
    end)
  end))

  it("does not stumble over words that nobody asked for", async(function()
    local dir <close> = support.dir()
    each(function(words, command)
      local takes_all = false
      for _, argument in ipairs(command.args or {}) do takes_all = takes_all or argument.many end
      local list = filled(words, command)
      for _ = 1, 5 do list[#list + 1] = "stray" end
      local _, _, errors, label = run(dir, list)
      if not takes_all then
        assert.matches('ignored the extra argument "stray"', errors, label)
      end
      for _, odd in ipairs { "", " ", "\0", "\255\254", ("x"):rep(10000), "--", "-", "-=", "--=x",
        "$(true)", "../../etc/passwd", "%s%n" } do
        list = table.move(words, 1, #words, 1, {})
        for _ = 1, math.max(1, #(command.args or {})) do list[#list + 1] = odd end
        run(dir, list)
      end
    end)
  end))

  it("helps, however it is asked", async(function()
    local dir <close> = support.dir()
    each(function(words, command)
      for _, flag in ipairs { "--help", "-h", "-help" } do
        local list = filled(words, command)
        list[#list + 1] = flag
        local code, out, errors, label = run(dir, list)
        assert.equal(0, code, label)
        assert.equal("", errors, label)
        assert.matches("Usage: peerup ", out, label)
        for _, option in ipairs(args.options(command)) do
          assert.is_truthy(out:find("--" .. option[1], 1, true), label .. ": " .. option[1])
          assert.is_true((option.help or "") ~= "", label .. ": " .. option[1])
        end
        for _, argument in ipairs(command.args or {}) do
          assert.is_true((argument.help or "") ~= "", label .. ": " .. argument[1])
        end
      end
      assert.is_true((command.summary or "") ~= "", table.concat(words, " "))
    end)
  end))
end)
