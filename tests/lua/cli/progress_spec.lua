--- lua/peerup/cli/progress.lua and the parts of context.lua and output.lua that go with it: what is
-- said while something takes its time, and how a wait is interrupted.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local core = require "peerup.core"
local err = require "peerup.err"
local output = require "peerup.cli.output"
local progress = require "peerup.cli.progress"
local uv = require "luv"

local AFTER_MS, TICK_MS = progress.AFTER_MS, progress.TICK_MS

--- A context whose standard error is a terminal or not; ctx.seen() is all that came, in order.
local function context(is_terminal, env)
  local ctx = support.context { env = env }
  local seen = {}
  local function sink(text) seen[#seen + 1] = text end
  ctx.out, ctx.err = output.new(sink, is_terminal), output.new(sink, is_terminal)
  function ctx.seen() return table.concat(seen) end
  return ctx
end

--- What a terminal shows of bytes: lines, where the erased ones are gone.
local function shown(bytes)
  return (("\n" .. bytes):gsub("\n[^\n]*\r\27%[K", "\n"):sub(2))
end

describe("progress", function()
  before_each(function() progress.AFTER_MS, progress.TICK_MS = 30, 60 end)
  after_each(function() progress.AFTER_MS, progress.TICK_MS = AFTER_MS, TICK_MS end)

  it("is silent about what is quick", async(function()
    for _, is_terminal in ipairs { true, false } do
      local ctx = context(is_terminal)
      local p = ctx:progress "Connecting"
      core.task.sleep(0.005)
      p:close()
      core.task.sleep(0.04)
      assert.equal("", ctx.seen())
      assert.is_nil(ctx.out.live)
    end
  end))

  it("is one plain line for each step where there is no terminal", async(function()
    for _, ctx in ipairs { context(false), context(true, { TERM = "dumb" }) } do
      do
        local p <close> = ctx:progress "Connecting"
        core.task.sleep(0.05)
        assert.equal("Connecting...\n", ctx.seen())
        core.task.sleep(0.15)
        assert.equal("Connecting...\n", ctx.seen())
        p:say "Waiting"
        core.task.sleep(0.15)
        p:say(function() return "never here" end)
        core.task.sleep(0.15)
      end
      assert.equal("Connecting...\nWaiting...\n", ctx.seen())
    end
  end))

  it("is a line on a terminal that goes away before anything else is said", async(function()
    local ctx = context(true)
    do
      local p <close> = ctx:progress("Connecting to\n" .. ("x"):rep(200))
      core.task.sleep(0.05)
      assert.matches("^\r\27%[KConnecting to%?x+$", ctx.seen())
      assert.is_true(#ctx.seen() < 85)
      ctx.out:line "a result"
      assert.equal("a result\n", shown(ctx.seen()))
      core.task.sleep(0.15)
      ctx.err:paint("yellow", "a warning")
      p:say(function() return "counting down" end)
      core.task.sleep(0.15)
      assert.matches("counting down$", ctx.seen())
    end
    assert.equal("a result\n\27[33ma warning\27[0m\n", shown(ctx.seen()))
    ctx.out:line "the end"
    assert.matches("the end\n$", ctx.seen())
  end))

  it("is no longer than the terminal is wide", async(function()
    for columns, width in pairs { [0] = 79, [30] = 29, [200] = 99 } do
      local ctx = context(true)
      ctx.err.columns = function() return columns end
      local _ <close> = ctx:progress(("x"):rep(92))
      core.task.sleep(0.05)
      assert.equal(width, #ctx.seen():gsub("\r\27%[K", ""))
    end
  end))

  it("of an inner wait goes before that of the outer one", async(function()
    local ctx = context(true)
    do
      local outer <close> = ctx:progress "outer"
      do
        local _ <close> = ctx:progress "inner"
        core.task.sleep(0.05)
      end
      assert.is_nil(ctx.seen():find "outer")
      assert.equal(outer, ctx.err.live)
      core.task.sleep(0.15)
      assert.matches("outer", ctx.seen())
    end
    assert.equal("", shown(ctx.seen()))
  end))
end)

describe("a wait", function()
  it("that the user interrupts ends with 130, after it has cleaned up", async(function()
    local ctx = context(false)
    local clean = false
    core.task.spawn(function()
      core.task.sleep(0.05)
      uv.kill(uv.os_getpid(), "sigint")
    end)
    local value, problem = ctx:interruptible(function()
      local _ <close> = setmetatable({}, { __close = function() clean = true end })
      core.task.sleep(5)
      return "done"
    end)
    assert.is_nil(value)
    assert.equal(130, problem.exit)
    assert.is_true(err.is(problem, "silent"))
    assert.is_true(clean)
  end))

  it("that ends by itself gives what it has, or throws what it throws", async(function()
    local ctx = context(false)
    assert.same({ 1, nil, 3, n = 3 },
      table.pack(ctx:interruptible(function() return 1, nil, 3 end)))
    assert.is_nil(ctx.signals)
    local ok, problem = pcall(ctx.interruptible, ctx, function() error "ours" end)
    assert.is_false(ok)
    assert.matches("ours", problem)
  end))
end)
