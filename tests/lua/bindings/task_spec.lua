local core = require "peerup.core"
local uv = require "luv"

local task = core.task

--- Collects what is reported while f runs.
local function reports(f)
  local seen = {}
  task.on_failure(function(text)
    seen[#seen + 1] = text
  end)
  f()
  task.on_failure(nil)
  return seen
end

describe("core.task.spawn", function()
  it("runs up to the first wait at once", async(function()
    local steps = {}
    local t = task.spawn(function(...)
      steps[#steps + 1] = select("#", ...)
      task.sleep(0)
      steps[#steps + 1] = "after"
      return "a", nil, "c", nil
    end, 1, nil, nil)
    assert.same({ 3 }, steps)
    assert.equal("waiting", t:status())
    local results = table.pack(t:join())
    assert.same({ n = 5, true, "a", nil, "c", nil }, results)
    assert.equal("done", t:status())
    assert.same(results, table.pack(t:join()))
  end))

  it("nests", async(function()
    local depth = 0
    local function deeper(n)
      depth = depth + 1
      if n > 0 then
        assert(task.spawn(deeper, n - 1):join())
      end
    end
    deeper(50)
    assert.equal(51, depth)
  end))

  it("takes only a function", function()
    assert.has_error(function()
      task.spawn({})
    end)
  end)

  it("knows the running task", async(function()
    local inside
    local t = task.spawn(function()
      inside = task.current()
      task.sleep(0)
    end)
    assert.equal(t, inside)
    assert.not_equal(t, task.current())
    assert(t:join())
  end))
end)

describe("a task that fails", function()
  it("gives its error and the stack to who joins", async(function()
    local problem = {}
    local t = task.spawn(function()
      task.sleep(0)
      error(problem)
    end)
    assert.equal("waiting", t:status())
    local ok, value, trace = t:join()
    assert.is_false(ok)
    assert.equal(problem, value)
    assert.matches("stack traceback", trace)
    assert.equal("failed", t:status())
  end))

  it("closes its variables, after the stack was taken", async(function()
    local closed_with
    local t = task.spawn(function()
      local guard <close> = setmetatable({}, { -- luacheck: ignore guard
        __close = function(_, problem)
          closed_with = problem
        end,
      })
      task.sleep(0)
      local function innermost()
        error("boom", 0)
      end
      innermost()
      return nil
    end)
    local ok, problem, trace = t:join()
    assert.is_false(ok)
    assert.equal("boom", problem)
    assert.equal("boom", closed_with)
    assert.matches("innermost", trace)
  end))

  it("is reported when nobody joins", async(function()
    local seen = reports(function()
      task.spawn(function()
        error("lonely")
      end)
      task.spawn(function()
        task.sleep(0)
        error(core.error("timeout", "relay X"))
      end)
      task.sleep(0.02)
    end)
    assert.equal(2, #seen)
    assert.matches("lonely", seen[1])
    assert.matches("timed out: relay X", seen[2])
    assert.matches("stack traceback", seen[2])
  end))

  it("is not reported when claimed and joined", async(function()
    local seen = reports(function()
      local t = task.spawn(function()
        task.sleep(0)
        error("mine")
      end):claim()
      task.sleep(0.01)
      assert.equal("failed", t:status())
      assert.is_false((t:join()))
    end)
    collectgarbage()
    collectgarbage()
    assert.same({}, seen)
  end))

  it("is reported when claimed and dropped", async(function()
    local seen = reports(function()
      do
        local t = task.spawn(function()
          error("dropped")
        end)
        t:status()
      end
      do
        local t = task.spawn(function()
          task.sleep(0)
          error("claimed")
        end)
        t:claim()
      end
      task.sleep(0.01)
      collectgarbage()
      collectgarbage()
    end)
    assert.equal(2, #seen)
    assert.matches("dropped", seen[1])
    assert.matches("claimed", seen[2])
  end))

  it("survives a reporter that fails itself", async(function()
    task.on_failure(function()
      error("worse")
    end)
    task.spawn(function()
      error("expected on standard error: bad")
    end)
    task.on_failure(nil)
  end))

  it("fails when it yields by itself", async(function()
    local t = task.spawn(function()
      task.sleep(0)
      coroutine.yield(1)
    end)
    local ok, problem = t:join()
    assert.is_false(ok)
    assert.matches("coroutine.yield", problem)
  end))
end)

describe("waiting in the wrong place", function()
  it("throws on the main thread of a generator", async(function()
    local ok, problem = pcall(coroutine.wrap(function()
      task.sleep(0)
    end))
    assert.is_false(ok)
    assert.matches("call this inside a task", problem)
  end))

  it("throws where Lua cannot yield", async(function()
    local ok, problem = pcall(string.gsub, "x", "x", function()
      task.sleep(0)
    end)
    assert.is_false(ok)
    assert.matches("call this inside a task", problem)
  end))

  it("throws in a callback of luv", async(function()
    local problem
    assert(task.await(function(resume)
      local timer = assert(uv.new_timer())
      timer:start(0, 0, function()
        timer:close()
        local _
        _, problem = pcall(task.sleep, 0)
        resume(true)
      end)
    end))
    assert.matches("call this inside a task", problem)
  end))

  it("works across pcall, iterators and metamethods", async(function()
    local ok, value = pcall(function()
      task.sleep(0)
      return setmetatable({}, { __index = function(_, key)
        task.sleep(0)
        return key
      end }).name
    end)
    assert.is_true(ok)
    assert.equal("name", value)
    local count = 0
    for _ in function()
      task.sleep(0)
      count = count + 1
      return count < 4 and count or nil
    end do
      count = count + 0
    end
    assert.equal(4, count)
  end))

  it("refuses to be resumed by hand", async(function()
    local thread
    local t = task.spawn(function()
      thread = coroutine.running()
      return task.sleep(0.01)
    end)
    local ok, problem = coroutine.resume(thread)
    assert.is_false(ok)
    assert.matches("by hand", problem)
    assert.is_false((t:join()))
  end))
end)

describe("core.task.sleep", function()
  it("sleeps about that long", async(function()
    local before = uv.hrtime()
    assert.is_true(task.sleep(0.05))
    local passed = (uv.hrtime() - before) / 1e9
    assert.is_true(passed >= 0.049 and passed < 2)
  end))

  it("wants seconds", async(function()
    assert.has_error(function()
      task.sleep(-1)
    end)
    assert.has_error(function()
      task.sleep()
    end)
    assert.has_error(function()
      task.sleep(0 / 0)
    end)
  end))

  it("lets thousands sleep at once", async(function()
    local tasks = {}
    for i = 1, 2000 do
      tasks[i] = task.spawn(task.sleep, 0.01)
    end
    for i = 1, 2000 do
      assert(select(2, tasks[i]:join()))
    end
  end))
end)

describe("cancel", function()
  it("ends a wait with nil, canceled", async(function()
    local result, problem
    local t = task.spawn(function()
      result, problem = task.sleep(100)
      return task.sleep(0)
    end)
    t:cancel()
    t:cancel()
    assert.same({ true, true }, { t:join() })
    assert.is_nil(result)
    assert.equal("canceled", problem.code)
    t:cancel()
  end))

  it("waits for the next wait of a running task", async(function()
    local problem
    local t = task.spawn(function()
      task.current():cancel()
      local _
      _, problem = task.sleep(100)
    end)
    assert(t:join())
    assert.equal("canceled", problem.code)
  end))

  it("leaves a join, not the task that is joined", async(function()
    local slow = task.spawn(function()
      return task.sleep(0.02)
    end)
    local problem
    local waiting = task.spawn(function()
      local _
      _, problem = slow:join()
    end)
    waiting:cancel()
    assert(waiting:join())
    assert.equal("canceled", problem.code)
    assert.same({ true, true }, { slow:join() })
  end))
end)

describe("join", function()
  it("serves several", async(function()
    local t = task.spawn(function()
      task.sleep(0.01)
      return 7
    end)
    local sum = 0
    local joiners = {}
    for i = 1, 5 do
      joiners[i] = task.spawn(function()
        local _, value = t:join()
        sum = sum + value
      end)
    end
    for i = 1, 5 do
      assert(joiners[i]:join())
    end
    assert.equal(35, sum)
  end))

  it("refuses itself", async(function()
    local ok, problem = pcall(function()
      task.current():join()
    end)
    assert.is_false(ok)
    assert.matches("itself", problem)
  end))
end)

describe("core.task.await", function()
  it("gives what resume was called with, once", async(function()
    local again
    local got = table.pack(task.await(function(resume)
      again = resume
      local timer = assert(uv.new_timer())
      timer:start(1, 0, function()
        timer:close()
        resume(1, nil, "x", nil)
      end)
    end))
    assert.same({ n = 4, 1, nil, "x", nil }, got)
    again("too late")
    assert.is_true(task.sleep(0))
  end))

  it("takes an answer that comes at once", async(function()
    assert.same({ 5, 6 }, { task.await(function(resume)
      resume(5, 6)
      resume(7)
    end) })
  end))

  it("calls the cancel function", async(function()
    local canceled = 0
    local late
    local t = task.spawn(function()
      return task.await(function(resume)
        late = resume
        return function()
          canceled = canceled + 1
        end
      end)
    end)
    t:cancel()
    local ok, value, problem = t:join()
    assert.is_true(ok)
    assert.is_nil(value)
    assert.equal("canceled", problem.code)
    assert.equal(1, canceled)
    late(1)
    collectgarbage()
    late(2)
  end))

  it("throws what start throws", async(function()
    local kept
    local ok, problem = pcall(task.await, function(resume)
      kept = resume
      error("no start", 0)
    end)
    assert.is_false(ok)
    assert.equal("no start", problem)
    kept("harmless")
  end))

  it("keeps waiting tasks from the collector", async(function()
    local resume_it
    local value
    task.spawn(function()
      value = task.await(function(resume)
        resume_it = resume
      end)
    end)
    collectgarbage()
    collectgarbage()
    resume_it("alive")
    task.sleep(0.01)
    assert.equal("alive", value)
  end))
end)
