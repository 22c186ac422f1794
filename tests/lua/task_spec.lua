local task = require "peerup.task"
local err = require "peerup.err"

--- A function that waits, then gives what it was told to.
local function later(seconds, ...)
  local values = table.pack(...)
  return function()
    local ok, problem = task.sleep(seconds)
    if not ok then
      return nil, problem
    end
    return table.unpack(values, 1, values.n)
  end
end

local function throws(seconds, what)
  return function()
    task.sleep(seconds)
    error(what, 0)
  end
end

local function failing(seconds, code)
  return later(seconds, nil, err.new(code))
end

describe("task.all", function()
  it("gives the first results in order", async(function()
    assert.same({ "a", "b", "c" }, task.all { later(0.02, "a", "x"), later(0, "b"),
      later(0.01, "c") })
    assert.same({}, task.all {})
  end))

  it("cancels the others at the first failure", async(function()
    local ended
    local values, problem, index = task.all { later(0.02, 1), failing(0.01, "denied"), function()
      local _, why = task.sleep(100)
      ended = why
      return 1
    end }
    assert.is_nil(values)
    assert.equal("denied", problem.code)
    assert.equal(2, index)
    assert.equal("canceled", ended.code)
  end))

  it("throws what a function throws, when all have ended", async(function()
    local ok, problem = pcall(task.all, { throws(0, "broken"), later(0.02, 1) })
    assert.is_false(ok)
    assert.matches("broken", problem)
  end))

  it("is cancelled as a whole", async(function()
    local outcome
    local t = task.spawn(function()
      outcome = table.pack(task.all { later(100, 1), later(100, 2) })
    end)
    task.sleep(0.01)
    t:cancel()
    assert(t:join())
    assert.is_nil(outcome[1])
    assert.equal("canceled", outcome[2].code)
  end))
end)

describe("task.race", function()
  it("gives the first that succeeds", async(function()
    assert.same({ "fast", 2 }, { task.race { later(100, "slow"), failing(0, "denied"),
      later(0.01, "fast", 2) } })
  end))

  it("gives the last failure when all fail", async(function()
    local value, problem = task.race { failing(0.02, "timeout"), failing(0, "denied") }
    assert.is_nil(value)
    assert.equal("timeout", problem.code)
    value, problem = task.race {}
    assert.is_nil(value)
    assert.equal("invalid", problem.code)
  end))

  it("throws what the first throws", async(function()
    local ok, problem = pcall(task.race, { later(100, 1), throws(0, "broken") })
    assert.is_false(ok)
    assert.matches("broken", problem)
  end))

  it("is cancelled as a whole", async(function()
    local outcome
    local t = task.spawn(function()
      outcome = table.pack(task.race { later(100, 1), later(100, 2) })
    end)
    t:cancel()
    assert(t:join())
    assert.is_nil(outcome[1])
    assert.equal("canceled", outcome[2].code)
  end))
end)

describe("task.deadline", function()
  it("gives the results in time", async(function()
    assert.same({ n = 3, 1, nil, 3 }, table.pack(task.deadline(10, later(0, 1, nil, 3))))
    assert.equal(7, task.deadline(10, function(a, b)
      return a + b
    end, 3, 4))
    local value, problem = task.deadline(10, failing(0, "denied"))
    assert.is_nil(value)
    assert.equal("denied", problem.code)
  end))

  it("cancels what is late", async(function()
    local value, problem = task.deadline(0.02, later(100, "late"))
    assert.is_nil(value)
    assert.equal("timeout", problem.code)
    value, problem = task.deadline(0.01, function()
      task.sleep(100)
      return "all the same"
    end)
    assert.is_nil(value)
    assert.equal("timeout", problem.code)
  end))

  it("throws what the function throws", async(function()
    local ok, problem = pcall(task.deadline, 10, throws(0, "broken"))
    assert.is_false(ok)
    assert.matches("broken", problem)
    local object = {}
    ok, problem = pcall(task.deadline, 10, throws(0, object))
    assert.is_false(ok)
    assert.equal(object, problem)
  end))

  it("passes a cancellation on", async(function()
    local outcome
    local t = task.spawn(function()
      outcome = table.pack(task.deadline(100, later(100, 1)))
    end)
    task.sleep(0.01)
    t:cancel()
    assert(t:join())
    assert.is_nil(outcome[1])
    assert.equal("canceled", outcome[2].code)
  end))
end)
